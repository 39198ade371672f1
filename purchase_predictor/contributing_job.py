"""Explaining impressions one by one: draw them, explain them in batches, write, sum up."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit

from features.arrays import TEST, EncodedMarket
from features.products import Phrases
from features.schema import Tables
from purchase_predictor.attribution import shapley
from purchase_predictor.attribution.aggregates import modality_table, word_table
from purchase_predictor.attribution.attending import Attending, agreements, mean_heads
from purchase_predictor.attribution.contributions import (
    GRADIENTS,
    Contributions,
    Detail,
    Explained,
)
from purchase_predictor.attribution.discovery import PhraseFinder
from purchase_predictor.attribution.sampling import sample_lists
from purchase_predictor.attribution.shapley import MODALITIES
from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import DataError
from purchase_predictor.painting import Painter
from purchase_predictor.panel import FUSION
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.contributing_data import ContributionReport
from purchase_predictor.training.selection import fingerprint, split_by

Floats = NDArray[np.float64]

ROW_TABLES = ("contributions", "attention")
"""Tables with rows of every impression: written batch by batch."""

MAX_SHOWN = 12
"""Single impressions on the page."""


@dataclass(frozen=True)
class ContributionFindings:
    """What was found, and where it lies.

    Attributes:
        report: for the page.
        completeness: float64 [n], relative errors of integrated gradients.
        by_modality: method to float64 [n, 6].
        subsets: float64 [n, N_SUBSETS], logits under every subset of the modalities.
        logit: float64 [n], of the model asked without any mask.
        sample: the rows.
        contributions: that explained them, for further questions.
        files: written.
        finder: what words in a row contribute; None where it was not asked for.
    """

    report: ContributionReport
    completeness: Floats
    by_modality: dict[str, Floats]
    subsets: Floats
    logit: Floats
    sample: EncodedMarket
    contributions: Contributions
    files: list[Path]
    finder: PhraseFinder | None = None


def explain_impressions(
    predictor: PurchasePredictor,
    tables: Tables,
    data: EncodedMarket,
    n: int,
    *,
    effects: pl.DataFrame,
    discover: bool,
    folder: Path,
    seed: int,
    reporter: Reporter,
) -> ContributionFindings:
    """Explain a sample of impressions, those of the test period where that is known.

    Args:
        predictor: a fitted model.
        tables: of the rows.
        data: the rows, encoded.
        n: impressions, about, as many of each market.
        effects: as `effects.parquet`, that attention is held against.
        discover: whether to collect what words in a row contribute.
        folder: where files go.
        seed: of the drawing.
        reporter: tells how far it is.
    """
    sample, held_out = _drawn(predictor, tables, data, n, seed)
    asked = Contributions.of_systems(
        predictor.panel_.systems_, predictor.preparation_, tables, sample
    )
    probability = predictor.panel_.predict_proba(sample, [FUSION])[FUSION]
    shown = shown_places(probability, sample.market_label.astype(str))
    finder = PhraseFinder(asked) if discover else None
    with reporter.progress(len(sample), "impressions explained") as advance:
        phrases = predictor.preparation_.features_.phrases_
        parts, attended = _explained(asked, phrases, finder, shown, folder, advance)
    found = _Whole.of(parts, len(sample))
    modalities, words = _averages(predictor, sample, found, folder)
    means = {"modalities": modalities, "words": words, "heads": attended.heads}
    files = [folder / f"{name}.parquet" for name in ROW_TABLES]
    files += _write(folder, means)
    painter = Painter(predictor, tables, sample, probability, found.details, found.by_modality)
    settings, market = predictor.settings.evaluation, sample.market_label.astype(str)
    agreed = agreements(
        attended.likeness, attended.on_phrases, asked.phrase_names, effects, market, sample.unit,
        settings.confidence,
    )  # fmt: skip
    report = ContributionReport(
        n=len(sample), held_out=held_out, modalities=modalities, words=words,
        impressions=[painter.impression(place) for place in shown],
        confidence=settings.confidence, min_conversions=settings.min_test_conversions,
        n_markets=len(np.unique(market)), attention=agreed, heads=attended.heads,
    )  # fmt: skip
    return ContributionFindings(
        report, found.error, found.by_modality, found.subsets, found.logit, sample, asked,
        files, finder,
    )  # fmt: skip


@dataclass(frozen=True)
class _Attended:
    """Attention of the whole sample, in its order; fields as of `attending.Attended`."""

    heads: pl.DataFrame
    likeness: dict[str, Floats]
    on_phrases: dict[str, Floats]


def _explained(
    asked: Contributions,
    phrases: Phrases,
    finder: PhraseFinder | None,
    shown: list[int],
    folder: Path,
    advance: Callable[[int], None],
) -> tuple[list[Explained], _Attended]:
    """Explain batch by batch; tables go to files, which may be too large to be held."""
    parts, attended, order = [], [], np.empty(len(asked.sample), np.int64)
    attending = Attending(asked, phrases)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for number, part in enumerate(asked.batches(shown)):
            told = attending(part)
            if finder is not None:
                finder(part)
            for name, frame in (("contributions", part.frame), ("attention", told.frame)):
                frame.write_parquet(Path(place) / f"{name}-{number:06d}.parquet")
            parts.append(part.without_tensors())
            attended.append(replace(told, frame=told.frame.clear()))
            advance(len(part.places))
        for name in ROW_TABLES:
            rows = pl.scan_parquet(Path(place) / f"{name}-*.parquet")
            write_file(folder / f"{name}.parquet", rows.sink_parquet)
    places = np.concatenate([part.places for part in parts])
    order[places] = np.arange(len(places))

    def whole(found: str) -> dict[str, Floats]:
        each = [getattr(told, found) for told in attended]
        return {m: np.concatenate([own[m] for own in each])[order] for m in each[0]}

    heads = mean_heads([told.heads for told in attended])
    return parts, _Attended(heads, whole("likeness"), whole("on_phrases"))


def shown_places(probability: Floats, market: NDArray[np.str_]) -> list[int]:
    """The likeliest impression of each market, and the least likely where there is room.

    Args:
        probability: float64 [n].
        market: str [n].

    Returns:
        Places, `MAX_SHOWN` at most, market by market; of more markets than that the first by
        name, which the page says.
    """
    names = np.unique(market)[:MAX_SHOWN]
    rows = [np.flatnonzero(market == name) for name in names]
    first = [int(own[probability[own].argmax()]) for own in rows]
    last = [int(own[probability[own].argmin()]) for own in rows]
    room = MAX_SHOWN - len(first)
    pairs = zip(first, [*last[:room], *[-1] * len(first)], strict=False)
    return list(dict.fromkeys(place for pair in pairs for place in pair if place >= 0))


def _drawn(
    predictor: PurchasePredictor, tables: Tables, data: EncodedMarket, n: int, seed: int
) -> tuple[EncodedMarket, bool]:
    """The rows that are explained, and whether the model never learned from them."""
    eligible, held_out = _held_out(predictor, tables, data)
    known = np.isin(data.market_label.astype(str), data.market_names)
    sample = data.select(sample_lists(data, eligible & known, n, seed=seed))
    if not len(sample):
        raise DataError("there are no impressions to explain; --impressions 0 leaves them out")
    return sample, held_out


def _held_out(
    predictor: PurchasePredictor, tables: Tables, data: EncodedMarket
) -> tuple[NDArray[np.bool_], bool]:
    """Rows that the model never learned from; all, if the data are not those of its training."""
    everything = np.ones(len(data), bool)
    if fingerprint(tables) != predictor.facts_.fingerprint:
        return everything, False
    part = split_by(tables, predictor.settings).part
    given = tables.impressions["row"].to_numpy()
    order = np.argsort(given)
    test = part[order][np.searchsorted(given[order], data.row)] == TEST
    return (test, True) if test.any() else (everything, False)


@dataclass(frozen=True)
class _Whole:
    """All batches put together, in the order of the sample."""

    subsets: Floats
    logit: Floats
    by_modality: dict[str, Floats]
    error: Floats
    details: dict[int, Detail]

    @classmethod
    def of(cls, parts: list[Explained], n: int) -> "_Whole":
        places = np.concatenate([part.places for part in parts])
        order = np.empty(n, np.int64)
        order[places] = np.arange(n)
        methods = parts[0].by_modality
        return cls(
            np.concatenate([part.subsets for part in parts])[order],
            np.concatenate([part.logit for part in parts])[order],
            {m: np.concatenate([part.by_modality[m] for part in parts])[order] for m in methods},
            np.concatenate([part.error for part in parts])[order],
            {place: detail for part in parts for place, detail in part.details.items()},
        )


def _saved(predictor: PurchasePredictor, sample: EncodedMarket, subsets: Floats) -> Floats | None:
    """Shapley values of the log-loss saved in each row, [n, 6]; None if no outcome is known."""
    if np.isnan(sample.converted).all():
        return None
    calibrator = predictor.panel_.calibrators_[FUSION]
    z = np.stack(
        [logit(calibrator.transform(expit(own), sample.market)) for own in subsets.T], axis=1
    )
    y = sample.converted[:, None].astype(np.float64)
    gain = y * z - np.logaddexp(0.0, z)
    return np.asarray(gain @ shapley.shapley_weights(len(MODALITIES)).T, np.float64)


def _averages(
    predictor: PurchasePredictor, sample: EncodedMarket, found: _Whole, folder: Path
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`modalities.parquet`, and contributions of words; `folder` has those of rows."""
    settings = predictor.settings.evaluation
    modalities = modality_table(
        found.by_modality,
        _saved(predictor, sample, found.subsets),
        sample.market_label.astype(str),
        sample.unit,
        sample.converted,
        min_conversions=settings.min_test_conversions,
        confidence=settings.confidence,
    )
    ids = sample.impression_id.astype(str)
    shared = pl.DataFrame({"impression_id": ids, "unit": sample.unit, "product": sample.product})
    words = word_table(
        pl.scan_parquet(folder / "contributions.parquet"), shared, GRADIENTS, settings.confidence
    )
    return modalities, words


def _write(folder: Path, tables: dict[str, pl.DataFrame]) -> list[Path]:
    files = []
    for name, frame in tables.items():
        files.append(folder / f"{name}.parquet")
        write_file(files[-1], frame.write_parquet)
    return files
