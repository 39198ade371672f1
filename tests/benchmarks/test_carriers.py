from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import carriers
from purchase_predictor.attribution.contributions import GRADIENTS, TREES


@pytest.mark.parametrize(
    ("token", "group"),
    [
        ("log_price_to_list_mean", "price"), ("price_rank_in_list", "price"),
        ("position", "position"), ("place_in_list", "position"),
        ("log_session_events_on_product: view", "repetition"), ("log_times_shown", "repetition"),
        ("position_from_latest_touched", "repetition"), ("device", "device"),
        ("device_age", carriers.REST), ("city", carriers.REST),
    ],
)  # fmt: skip
def test_columns_belong_to_one_group(token: str, group: str) -> None:
    assert carriers.group_of(token) == group


@pytest.fixture
def explained(tmp_path: Path) -> Path:
    """400 impressions of one market: price counts thrice as much as position, and both agree."""
    draw = np.random.default_rng(0)
    names = [f"i{number}" for number in range(400)]
    price = draw.choice([-3.0, 3.0], 400)
    values = {
        "log_price": price,
        "price_rank_in_list": np.zeros(400),
        "position": draw.choice([-1.0, 1.0], 400),
    }
    word = pl.DataFrame(
        {"impression_id": names, "market": "US", "modality": "text", "token": "half-price",
         "value": np.tile([0.0, 4.0], 200), "method": GRADIENTS}
    )  # fmt: skip
    frames = [
        pl.DataFrame(
            {"impression_id": names, "market": "US", "modality": "terms", "token": token,
             "value": scale * value, "method": method}
        )
        for method, scale in ((GRADIENTS, 1.0), (TREES, 2.0))
        for token, value in values.items()
    ]  # fmt: skip
    pl.concat([*frames, word]).write_parquet(tmp_path / "contributions.parquet")
    data = pl.DataFrame({"impression_id": names, "user_id": [f"u{n // 4}" for n in range(400)],
                         "session_id": names})  # fmt: skip
    data.write_parquet(tmp_path / "impressions.parquet")
    return tmp_path


def test_shares_and_agreement(explained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(explained)
    line = ["--explained", folder, "--data", folder, "--output", f"{folder}/found.json"]
    assert carriers.main(line) == 0
    rows = carriers.sums(explained).join(carriers.units(explained), on="impression_id")
    us, every = carriers.carriers(rows)
    assert (us["market"], every["market"], us["n"]) == ("US", "all", 400)
    trees, fusion = us["shares"]["lightgbm"], us["shares"]["fusion"]
    assert trees["price"] == pytest.approx([0.75, 0.75, 0.75])
    assert trees["position"][0] == pytest.approx(0.25)
    assert trees["device"] == [0.0, 0.0, 0.0]
    # a word of the title counts for the rest, whatever it says: half of the impressions have it
    assert fusion["price"][0] == pytest.approx(3 / 6)
    assert fusion[carriers.REST][0] == pytest.approx(2 / 6)
    assert 0 < fusion["price"][1] <= 0.5 <= fusion["price"][2]
    assert us["agreement"]["price"] == pytest.approx(1.0)
    assert us["agreement"]["device"] is None
    assert "75% (75%–75%)" in capsys.readouterr().out


def test_few_impressions_are_no_market(explained: Path) -> None:
    rows = carriers.sums(explained).with_columns(
        market=pl.when(pl.col("impression_id").is_in([f"i{n}" for n in range(20)]))
        .then(pl.lit("JP"))
        .otherwise("market")
    )
    found = carriers.carriers(rows.join(carriers.units(explained), on="impression_id"))
    assert [row["market"] for row in found] == ["US", "all"]
