import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from features.schema import load_tables
from purchase_predictor.data.marketplace import SampleSize, SampleSummary, write_sample, writing
from purchase_predictor.errors import UserError

TINY = SampleSize(1_000, 150)
SCRIPT = (
    "import sys; from pathlib import Path; "
    "from purchase_predictor.data.marketplace import SampleSize, write_sample; "
    "write_sample(Path(sys.argv[1]), size=SampleSize(1_000, 150), seed=5)"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SampleSummary:
    return write_sample(tmp_path_factory.mktemp("made") / "sample", size=TINY, seed=5)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_sample_passes_the_data_contract(written: SampleSummary) -> None:
    tables = load_tables(written.folder)

    assert len(tables.quarantine) == 0
    assert len(tables.impressions) == written.n_impressions == TINY.n_impressions
    assert len(tables.products) == written.n_products == TINY.n_listings
    assert len(tables.events) == written.n_events
    assert tables.context == {
        "position": "number",
        "n_reviews": "number",
        "device": "category",
        "visit_source": "category",
    }
    assert 2 <= written.n_events / written.n_impressions <= 4


def test_every_product_has_a_picture(written: SampleSummary) -> None:
    products = pl.read_parquet(written.folder / "products.parquet")

    for name in products["image"]:
        with Image.open(written.folder / name, formats=["PNG"]) as picture:
            assert picture.size == (64, 64)
    assert len(list((written.folder / "images").iterdir())) == len(products)


def test_the_truth_has_a_row_for_every_impression(written: SampleSummary) -> None:
    impressions = pl.read_parquet(written.folder / "impressions.parquet")
    truth = pl.read_parquet(written.folder / "truth" / "impressions.parquet")
    effects = json.loads((written.folder / "truth" / "effects.json").read_text("utf-8"))

    assert truth["impression_id"].to_list() == impressions["impression_id"].to_list()
    assert truth["randomised"].to_list() == impressions["randomised"].to_list()
    for column in ("p_true", "p_observable", "p_fitted"):
        assert truth[column].is_between(0, 1, closed="none").all()
    assert set(effects) == set(impressions["market"])
    assert set(effects["KR"]) >= {"phrase", "image", "discount_rate", "free_shipping"}


def test_the_same_seed_gives_the_same_bytes_in_another_process(
    written: SampleSummary, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", SCRIPT, str(tmp_path / "again")],
        check=True,
        env=environment,
        cwd=Path(__file__).parents[3],
    )

    assert digests(tmp_path / "again") == digests(written.folder)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UserError, match="exists already"):
        write_sample(tmp_path, size=TINY)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_culture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="on, off or shuffled"):
        write_sample(tmp_path / "x", size=TINY, culture="maybe")  # type: ignore[arg-type]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writing, "write_pictures", fail)
    with pytest.raises(OSError, match="disk full"):
        write_sample(tmp_path / "x", size=TINY)
    assert list(tmp_path.iterdir()) == []


def test_another_seed_gives_another_sample_and_progress_is_told(
    written: SampleSummary, tmp_path: Path
) -> None:
    told: list[str] = []
    other = write_sample(tmp_path / "x", size=TINY, seed=6, progress=told.append)

    assert (
        digests(other.folder)["impressions.parquet"]
        != (digests(written.folder)["impressions.parquet"])
    )
    assert told[0] == "shoppers and their sessions"
    assert told[-1] == "pictures: 150 of 150"
