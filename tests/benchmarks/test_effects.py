import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks import confounded, effects

TRUTH = {
    "KR": {"phrase": {"limited_quantity": 0.7, "gift": 0.0}, "discount_rate": 0.2,
           "free_shipping": -0.4},
    "US": {"phrase": {"limited_quantity": -0.1, "gift": 0.0}, "discount_rate": 0.3,
           "free_shipping": 0.5},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "effects.json").write_text(json.dumps(TRUTH))
    rows = []
    for market, levers in TRUTH.items():
        for lever, phrase, value in (
            ("phrase", "limited_quantity", levers["phrase"]["limited_quantity"]),  # type: ignore[index]
            ("phrase", "gift", 0.3 if market == "KR" else 0.0),
            ("discount_rate", "", levers["discount_rate"]),
            ("free_shipping", "", -0.6 * levers["free_shipping"]),  # type: ignore[operator]
        ):
            rows.append((market, lever, phrase, value, value - 0.2, value + 0.2))
    columns = ["market", "lever", "phrase", "logit", "logit_low", "logit_high"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(tmp_path / "effects.parquet")
    pl.DataFrame(
        {
            "lever": ["phrase"], "phrase": ["limited_quantity"], "market": ["US"],
            "against": ["KR"], "logit": [-0.8], "low": [-1.0], "high": [-0.6], "p_holm": [0.001],
        }
    ).write_parquet(tmp_path / "contrasts.parquet")  # fmt: skip
    return tmp_path


def test_signs_coverage_and_null_phrases_are_counted(folder: Path) -> None:
    found = effects.compare(pl.read_parquet(folder / "effects.parquet"), effects.planted(folder))
    kr, us, every = found
    assert (kr["market"], us["market"], every["market"]) == ("KR", "US", "all")
    assert (kr["large"], us["large"]) == ("1/2", "1/2")  # shipping has the wrong sign in both
    assert (kr["null_flagged"], us["null_flagged"]) == ("1/1", "0/1")
    assert every["covered"] == pytest.approx(5 / 8)
    assert us["bias"] == pytest.approx(-0.2)  # the mean of 0, 0, 0 and -0.8


def test_contrasts_that_are_claimed_are_counted(folder: Path) -> None:
    contrasts = pl.read_parquet(folder / "contrasts.parquet")
    doubted = contrasts.with_columns(p_holm=pl.lit(0.2))
    assert effects.claimed(pl.concat([contrasts, doubted])) == 1


def test_offers_assigned_at_random_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, chosen = tmp_path / "data", tmp_path / "chosen"
    (data / "images").mkdir(parents=True)
    rows = pl.DataFrame({"impression_id": ["a", "b", "c"], "randomised": [True, False, None]})
    rows.write_parquet(data / "impressions.parquet")
    (data / "truth").mkdir()
    rows.write_parquet(data / "truth" / "impressions.parquet")
    command = ["--data", str(data), "--output", str(chosen)]
    assert confounded.main(["--data", str(tmp_path), "--output", str(chosen)]) == 2
    assert not chosen.exists()
    assert confounded.main(command) == 0
    assert pl.read_parquet(chosen / "impressions.parquet")["impression_id"].to_list() == ["b", "c"]
    assert (chosen / "images").is_dir()
    assert len(pl.read_parquet(chosen / "truth" / "impressions.parquet")) == 3
    assert len(pl.read_parquet(data / "impressions.parquet")) == 3
    assert confounded.main(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_contrast_is_turned_the_way_it_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "--effects",
        str(folder),
        "--truth",
        str(folder),
        "--output",
        str(folder / "o.json"),
    ]
    assert effects.main(command) == 0
    shown = capsys.readouterr().out
    assert "limited_quantity, KR − US: +0.80 (+0.60 to +1.00)" in shown
    assert json.loads((folder / "o.json").read_text())["headlines"]
