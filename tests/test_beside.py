"""Two models' stories of the same impressions, side by side."""

import copy
from pathlib import Path

import polars as pl
import pytest

from purchase_predictor.beside_job import agreement, paired, tell_beside
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import DataError
from purchase_predictor.explaining_job import explain_model
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.beside import beside_context
from purchase_predictor.report.contributing import contribution_words
from purchase_predictor.report.explaining_words import ENGLISH


def effects(*rows: tuple[str, str, float, float, float | None]) -> pl.DataFrame:
    """Of each: market, phrase, effect, half of its interval, p."""
    return pl.DataFrame(
        [(m, "phrase", phrase, v, v - half, v + half, p) for m, phrase, v, half, p in rows],
        schema=["market", "lever", "phrase", "logit", "logit_low", "logit_high", "p"],
        orient="row",
    )


def test_levers_that_both_tell_of_stand_beside_each_other() -> None:
    first = effects(("KR", "sale", 0.5, 0.2, 0.01), ("KR", "gift", 0.1, 0.2, 0.4),
                    ("KR", "own", 0.3, 0.1, None), ("US", "sale", 0.2, 0.1, 0.01))  # fmt: skip
    second = effects(("KR", "sale", -0.4, 0.1, 0.01), ("KR", "gift", 0.2, 0.1, 0.01))
    found = paired(first, second)
    assert found["phrase"].to_list() == ["sale", "gift"]
    assert found["beside"].to_list() == [-0.4, 0.2]
    (agreed,) = agreement(found)
    assert (agreed.market, agreed.n, agreed.rank) == ("KR", 2, None)
    assert (agreed.same_sign, agreed.against) == (0.5, 1)


def test_a_model_beside_itself_says_the_same(
    small_model: PurchasePredictor,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet = Reporter(quiet=True)
    explanation = explain_model(
        small_model, tiny_folder, tmp_path, version="1", n_impressions=12, reporter=quiet
    )
    # few conversions make small effects vanish, which is told
    warned = " ".join(capsys.readouterr().err.split())
    n = small_model.facts_.n_train_conversions
    assert (
        f"the model learned from {n} conversions: penalties draw small effects to zero" in warned
    )
    told = tell_beside(explanation, small_model, tiny_folder, tmp_path, reporter=quiet)
    frame = pl.read_parquet(tmp_path / "beside.parquet")
    assert set(frame["market"]) == {"KR", "US", "JP", "MX"}
    assert (frame["logit"] - frame["beside"]).abs().max() < 1e-6
    shares = pl.read_parquet(tmp_path / "beside_modalities.parquet")
    assert (shares["value"] - shares["beside"]).abs().max() < 1e-4
    assert all(agreed.against == 0 and agreed.same_sign == 1 for agreed in told.report.agreement)
    shown = beside_context(told.report, ENGLISH, contribution_words("en").modalities, "en")
    assert shown["title"] == "Two models side by side: all global and all global"
    assert all(row[2] == row[3] for row in shown["rows"])
    assert len(shown["rows"]) == len(frame)


def test_models_without_a_common_lever_are_refused(
    small_model: PurchasePredictor, tiny_folder: Path, tmp_path: Path
) -> None:
    quiet = Reporter(quiet=True)
    explanation = explain_model(
        small_model, tiny_folder, tmp_path, version="1", n_impressions=0, reporter=quiet
    )
    elsewhere = explanation.effects.with_columns(market=pl.lit("XX"))
    other = type(explanation)(explanation.facts, elsewhere, explanation.contrasts)
    with pytest.raises(DataError, match="no lever that both models have"):
        tell_beside(other, small_model, tiny_folder, tmp_path, reporter=quiet)


def test_models_of_any_seed_explain_the_same_impressions(
    small_model: PurchasePredictor, tiny_folder: Path, tmp_path: Path
) -> None:
    other = copy.copy(small_model)
    other.settings = small_model.settings.model_copy(update={"seed": 7})

    def explained(model: PurchasePredictor, seed: int) -> list[str]:
        folder = tmp_path / f"{model.settings.seed}-{seed}"
        folder.mkdir()
        explain_model(
            model, tiny_folder, folder, version="1", n_impressions=12, seed=seed,
            reporter=Reporter(quiet=True),
        )  # fmt: skip
        found = pl.read_parquet(folder / "contributions.parquet")["impression_id"]
        return found.unique().sort().to_list()

    assert explained(small_model, 0) == explained(other, 0) != explained(other, 1)
