import functools
from pathlib import Path

import pytest

from purchase_predictor import runs
from purchase_predictor.errors import DataError
from purchase_predictor.runs import run_key
from purchase_predictor.settings import load_settings


def _key(file: Path | str) -> str:
    settings = load_settings(overrides=[f"data.market_profiles={file}"])
    return run_key("data", settings, "all", "global")


def test_profiles_of_ones_own_make_another_run_wherever_they_lie(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")]
    for file, value in zip(files, (1, 1, 2), strict=True):
        file.write_text(f"markets: {{north: {{dimensions: {{income: {value}}}}}}}")
    first, same, other = map(_key, files)
    assert first == same
    assert len({first, other, _key("''")}) == 3


def test_a_file_of_profiles_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.yaml cannot be read"):
        _key(tmp_path / "nowhere.yaml")


def test_whether_own_rows_stop_training_makes_another_run() -> None:
    key = functools.partial(run_key, "data", load_settings(), "KR", "local")
    assert key() == key(stops=True) != key(stops=False)


def test_another_layout_of_the_network_makes_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _key("''")
    monkeypatch.setattr(runs, "LAYOUT", runs.LAYOUT + 1)
    assert _key("''") != before
