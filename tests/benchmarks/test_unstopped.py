import json
from pathlib import Path

import pytest

from benchmarks import unstopped
from features.arrays import TRAIN
from features.schema import Tables
from purchase_predictor.settings import load_settings
from purchase_predictor.training.selection import split_by
from tests.training.quick import QUICK

SETS = [*QUICK, "training.max_epochs=1", "encoders.epochs=1", "pretraining.taste_models=1",
        "pretraining.taste_epochs=1",
        "baselines.lightgbm.max_rounds=5", "baselines.lightgbm.min_child_samples=5",
        "baselines.lightgbm.threads=1", "data.validation_fraction=0.2"]  # fmt: skip


def test_small_markets_are_those_of_few_training_conversions(tiny_tables: Tables) -> None:
    settings = load_settings(None, ["data.min_conversions=1"])
    part = split_by(tiny_tables, settings).part
    counts = {
        market: int(
            tiny_tables.impressions["converted"].to_numpy()[
                (tiny_tables.impressions["market"] == market).to_numpy() & (part == TRAIN)
            ].sum()
        )
        for market in tiny_tables.impressions["market"].unique()
    }  # fmt: skip
    most = sorted(counts.values())[1]  # of the second smallest

    found = unstopped.small_markets(tiny_tables, settings, most)

    assert found == {market: n for market, n in counts.items() if n <= most}
    fewest = {"data": settings.data.model_copy(update={"min_conversions": most})}
    again = unstopped.small_markets(tiny_tables, settings.model_copy(update=fewest), most)
    assert set(again.values()) == {most}


def test_the_parts_of_a_local_model_are_ranked_apart(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "unstopped.json"
    sets = [text for one in SETS for text in ("--set", one)]
    command = ["unstopped", "--data", str(tiny_folder), "--at-most", "20", *sets]
    monkeypatch.setattr("sys.argv", [*command, "--output", str(output)])

    unstopped.main()

    found = json.loads(output.read_text())
    names = ["network", "readout", "both", "lightgbm"]
    assert found
    assert all(0 <= one[name] <= 1 for one in found for name in names)
    assert all(one["n_train_positive"] <= 20 for one in found)
    assert any(one["network"] != one["readout"] for one in found)
    # what is printed last is the mean over markets
    printed = capsys.readouterr().out.splitlines()
    means = [cell.strip() for cell in printed[-1].strip("|").split("|")][-4:]
    for name, mean in zip(names, means, strict=True):
        assert float(mean) == pytest.approx(sum(o[name] for o in found) / len(found), abs=6e-4)
