"""Two models' stories side by side: that of a market's own model and that of one for all markets.

The talk that this project follows told of local models. Where a market has both, what they say of
the same impressions stands beside each other.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.arrays import N_RESERVED
from purchase_predictor.attribution import shapley
from purchase_predictor.attribution.aggregates import SHARE, modality_table, rank_or_none
from purchase_predictor.attribution.contributions import ROWS_AT_ONCE, SHAPLEY
from purchase_predictor.attribution.effects import EffectsOfLevers
from purchase_predictor.attribution.shapley import MODALITIES
from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import DataError
from purchase_predictor.explaining_job import Explanation, levers_of
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.beside import BesideReport, MarketAgreement
from purchase_predictor.training.batches import Batcher

KEYS = ["market", "lever", "phrase"]


@dataclass(frozen=True)
class Beside:
    """What the other model says.

    Attributes:
        report: for the page.
        files: written.
    """

    report: BesideReport
    files: list[Path]


def refuse_strangers(model: PurchasePredictor, other: PurchasePredictor) -> None:
    """See that two models share a market, before anything takes long.

    Raises:
        DataError: they share none.
    """
    one, two = (
        set(each.preparation_.features_.vocabularies_["market"].names[N_RESERVED:])
        for each in (model, other)
    )
    if not one & two:
        raise DataError(
            f"there is no market that both models know: {', '.join(sorted(one))} and "
            f"{', '.join(sorted(two))}"
        )


def tell_beside(
    explanation: Explanation,
    other: PurchasePredictor,
    source: Path,
    folder: Path,
    *,
    reporter: Reporter,
) -> Beside:
    """Ask another model about the same impressions, in the markets that both know.

    Args:
        explanation: of the first model.
        other: a fitted model.
        source: the data folder that was explained.
        folder: where `beside.parquet` and `beside_modalities.parquet` go.
        reporter: tells what happens.

    Raises:
        DataError: the two models have no lever in common.
    """
    reporter.step("the other model's effects")
    asked = levers_of(other, source, reporter=reporter)
    confidence = explanation.facts["confidence"]
    levers = asked.levers()
    nowhere = asked.unknown_phrases(levers)
    levers = [lever for lever in levers if lever.phrase not in nowhere]
    effects = paired(explanation.effects, asked.effects(levers, confidence=confidence))
    if effects.is_empty():
        raise DataError("there is no lever that both models have in a market that both know")
    shares = None
    if explanation.single is not None:
        reporter.step("the other model's modalities")
        shares = _shares(explanation, other, asked, confidence)
    files = []
    for name, frame in (("beside", effects), ("beside_modalities", shares)):
        if frame is not None:
            files.append(folder / f"{name}.parquet")
            write_file(files[-1], frame.write_parquet)
    first = f"{explanation.facts['market']} {explanation.facts['scope']}"
    return Beside(
        BesideReport(
            first=first, second=f"{other.market} {other.scope}", effects=effects, shares=shares,
            agreement=agreement(effects), confidence=confidence,
        ),
        files,
    )  # fmt: skip


def paired(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Effects that both models have a weight of, side by side.

    Args:
        first: as `effects.parquet`.
        second: likewise, of the other model.

    Returns:
        `market, lever, phrase, logit, logit_low, logit_high, beside, beside_low, beside_high`.
    """
    names = {"logit": "beside", "logit_low": "beside_low", "logit_high": "beside_high"}
    # without a p an effect has no error of the model's own: nothing to stand beside
    own = first.drop_nulls("p").select(*KEYS, *names)
    return own.join(
        second.select(*KEYS, *names).rename(names), on=KEYS, how="inner", maintain_order="left"
    )


def agreement(effects: pl.DataFrame) -> list[MarketAgreement]:
    """How far two models agree in each market.

    Args:
        effects: as `paired` returns them.
    """
    found = []
    for (market,), own in effects.group_by("market", maintain_order=True):
        one, two = own["logit"].to_numpy(), own["beside"].to_numpy()
        rank = rank_or_none(one, two)
        surely = own.select(
            ((pl.col("logit_low") > 0) | (pl.col("logit_high") < 0))
            & ((pl.col("beside_low") > 0) | (pl.col("beside_high") < 0))
        ).to_series()
        against = int((surely.to_numpy() & (np.sign(one) != np.sign(two))).sum())
        same = float((np.sign(one) == np.sign(two)).mean())
        found.append(MarketAgreement(str(market), len(own), rank, same, against))
    return found


def _shares(
    explanation: Explanation,
    other: PurchasePredictor,
    asked: EffectsOfLevers,
    confidence: float,
) -> pl.DataFrame:
    """Shares of modalities by both models, over the impressions explained."""
    single = explanation.single
    assert single is not None  # noqa: S101 - the caller asks where there is one
    data, fusion = asked.data, asked.fusion
    known = np.isin(data.market_label.astype(str), data.market_names)
    wanted = np.isin(data.impression_id.astype(str), single.sample.impression_id.astype(str))
    sample = data.select(known & wanted)
    model, columns = fusion.model_.cpu().eval(), fusion.columns_of(sample)
    players = np.empty((len(sample), len(MODALITIES)))
    weights = shapley.shapley_weights(len(MODALITIES)).T
    for places, batch in Batcher(columns, batch_size=ROWS_AT_ONCE).scoring_batches():
        players[places] = shapley.subset_logits(model, batch) @ weights
    table = modality_table(
        {SHAPLEY: players}, None, sample.market_label.astype(str), sample.unit, sample.converted,
        min_conversions=other.settings.evaluation.min_test_conversions, confidence=confidence,
    )  # fmt: skip
    names = {"value": "beside", "low": "beside_low", "high": "beside_high"}
    own = single.report.modalities.filter(method=SHAPLEY, measure=SHARE)
    theirs = table.filter(measure=SHARE).select("market", "modality", *names).rename(names)
    return own.select("market", "modality", *names).join(
        theirs, on=["market", "modality"], how="inner", maintain_order="left"
    )
