import shutil
from pathlib import Path

import pytest

from benchmarks import large
from features.schema import Tables, load_tables


def test_worlds_lie_side_by_side_and_share_no_id(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(folder: Path, *, size: str, seed: int) -> None:
        assert size == "claims"
        shutil.copytree(tiny_folder, folder)
        (folder / "truth").mkdir()
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / f"only-{seed}.png").touch()

    monkeypatch.setattr(large, "write_sample", sample)
    for seed in (0, 1, 1):
        large.make_world(tmp_path, seed)
    folder = large.side_by_side(tmp_path, 2)

    one, both = (load_tables(place, require_labels=False) for place in (tiny_folder, folder))
    for table, key in (("impressions", "impression_id"), ("products", "product_id")):
        rows = getattr(both, table)
        assert len(rows) == 2 * len(getattr(one, table)) == rows[key].n_unique()
    assert _n_users(both) == 2 * _n_users(one)
    assert both.impressions["converted"].null_count() == len(both.impressions)
    assert (folder / "images" / "001" / "only-1.png").is_file()


def _n_users(tables: Tables) -> int:
    return tables.impressions["user_id"].drop_nulls().n_unique()
