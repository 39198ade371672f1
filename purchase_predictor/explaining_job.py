"""Explaining, step by step: load, encode, ask for every lever, write, log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.products import Phrases
from features.schema import Tables, load_tables
from purchase_predictor import tracking
from purchase_predictor.attribution.asking import Asker
from purchase_predictor.attribution.effects import FOUND_PHRASE, PHRASE, EffectsOfLevers
from purchase_predictor.attribution.listings import ListingEffects
from purchase_predictor.attribution.phrases import TitleEffects
from purchase_predictor.checking_job import check_explanations
from purchase_predictor.checkpoint import write_file, write_json
from purchase_predictor.cli import Reporter
from purchase_predictor.contributing_job import ContributionFindings, explain_impressions
from purchase_predictor.counted import Counted
from purchase_predictor.panel import FUSION
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import StoreSettings
from purchase_predictor.training.selection import fingerprint
from purchase_predictor.training.system import FusionSystem

FEW_CONVERSIONS = 1_000
"""Training conversions below which an effect near zero says little."""


@dataclass(frozen=True)
class Explanation:
    """What moves buyers.

    Attributes:
        facts: data, model, rows, level.
        effects: as `effects.parquet`.
        contrasts: as `contrasts.parquet`.
        single: what was found of single impressions; None where they were left out.
    """

    facts: dict[str, Any]
    effects: pl.DataFrame
    contrasts: pl.DataFrame
    single: ContributionFindings | None = None


def explain_model(
    predictor: PurchasePredictor,
    source: Path,
    folder: Path,
    *,
    version: str,
    n_impressions: int,
    phrases: Phrases | None = None,
    discover: int = 0,
    seed: int = 0,
    reporter: Reporter,
) -> Explanation:
    """Effects of every lever in every market of the data, contributions to single impressions.

    Args:
        predictor: a fitted model.
        source: data folder; labels are not needed.
        folder: where contributions go, which may be too many to be held.
        version: of the model.
        n_impressions: to be explained one by one, about.
        phrases: to ask for, instead of those that the model was made with.
        discover: how many phrases to find in each market among words that contribute.
        seed: of the impressions that are drawn: models of any seed explain the same ones.
        reporter: tells what happens.
    """
    asked = levers_of(predictor, source, reporter=reporter)
    tables = asked.tables
    if (champion := predictor.facts_.champion) != FUSION:
        reporter.step(f"effects are of the fusion; the model scores by its champion, {champion}")
    _warn_of_intervals(predictor, reporter)
    reporter.step("phrases and terms, with and without")
    known, unknown = _own_phrases(predictor, phrases)
    levers = asked.levers()
    nowhere = sorted(known & set(asked.unknown_phrases(levers)))
    if nowhere:
        reporter.warn(f"left out, since no title has them: {', '.join(nowhere)}")
    known -= set(nowhere)
    levers = [lever for lever in levers if lever.kind != PHRASE or lever.phrase in known]
    confidence = predictor.settings.evaluation.confidence
    effects = asked.effects(levers, confidence=confidence)
    further = _Further(predictor, asked, seed, reporter)
    found = [further.listings(), *([further.phrases(unknown)] if unknown else [])]
    effects = pl.concat([effects, *found], how="diagonal_relaxed")
    single = None
    if n_impressions:
        reporter.step("contributions to single impressions")
        single = explain_impressions(
            predictor, tables, asked.data, n_impressions,
            effects=effects, discover=discover > 0, folder=folder,
            seed=seed, reporter=reporter,
        )  # fmt: skip
        if discover:
            candidates = further.discovered(single, discover, unknown)
            effects = pl.concat([effects, candidates], how="diagonal_relaxed")
    facts = _facts(predictor, tables, source)
    facts |= {"model_version": version, "own_phrases": list(unknown), "nowhere": nowhere}
    contrasts = asked.contrasts(levers, confidence=confidence)
    return Explanation(facts=facts, effects=effects, contrasts=contrasts, single=single)


def _warn_of_intervals(predictor: PurchasePredictor, reporter: Reporter) -> None:
    """Tell where effects and their intervals are less than they look."""
    if predictor.scope == "adapted":
        reporter.warn(
            "an adapted model takes the global model's weights as known: its intervals are too "
            "narrow; explain the global or the local model"
        )
    if (n := predictor.facts_.n_train_conversions) < FEW_CONVERSIONS:
        reporter.warn(
            f"the model learned from {Counted(n):conversion|conversions}: penalties draw small "
            "effects to zero, so an effect near zero does not show that there is none; its "
            "interval says how large it may be"
        )


def levers_of(
    predictor: PurchasePredictor, source: Path, *, reporter: Reporter
) -> EffectsOfLevers:
    """What a model knows of levers, over the impressions of a data folder.

    Args:
        predictor: a fitted model.
        source: data folder; labels are not needed.
        reporter: tells what happens.
    """
    reporter.step(f"reading {source}")
    tables = load_tables(
        source,
        require_labels=False,
        max_title_chars=predictor.settings.data.max_title_chars,
        context=predictor.preparation_.features_.context_,
    )
    reporter.step(f"encoding {len(tables.impressions):,} impressions")
    fusion = predictor.panel_.systems_[FUSION]
    assert isinstance(fusion, FusionSystem)  # noqa: S101 - what the panel holds by that name
    return EffectsOfLevers(
        fusion,
        predictor.preparation_,
        tables,
        predict=lambda data: predictor.panel_.predict_proba(data, [FUSION])[FUSION],
    )


def _facts(predictor: PurchasePredictor, tables: Tables, source: Path) -> dict[str, Any]:
    return {
        "data": source.resolve().name,
        "fingerprint": fingerprint(tables),
        "scope": predictor.scope,
        "market": predictor.market,
        "n_impressions": len(tables.impressions),
        "n_train_conversions": predictor.facts_.n_train_conversions,
        "randomised": _randomised(tables.impressions),
        "confidence": predictor.settings.evaluation.confidence,
    }


@dataclass(frozen=True)
class _Further:
    """Effects of what the model has no weights of, asked of the whole fusion."""

    predictor: PurchasePredictor
    asked: EffectsOfLevers
    seed: int
    reporter: Reporter

    @property
    def confidence(self) -> float:
        return self.predictor.settings.evaluation.confidence

    def asker(self, eligible: NDArray[np.bool_] | None = None) -> Asker:
        """Of the rows, or of those that are `eligible`, bool [n]."""
        return Asker(
            self.asked.fusion, self.predictor.preparation_, self.asked.data,
            calibrate=self.predictor.panel_.calibrators_[FUSION].transform,
            seed=self.seed, eligible=eligible,
        )  # fmt: skip

    def listings(self) -> pl.DataFrame:
        """Pictures and brands."""
        levers = ListingEffects(self.asker())
        with self.reporter.progress(len(levers.markets()), "pictures and brands") as advance:
            return levers.ask(self.confidence, advance=advance)

    def phrases(self, groups: Phrases) -> pl.DataFrame:
        """Phrases of the user's own."""
        titles = TitleEffects(self.asker(), self.asked.tables)
        with self.reporter.progress(len(groups), "own phrases") as advance:
            return titles.ask(groups, self.confidence, advance=advance, warn=self.reporter.warn)

    def discovered(self, single: ContributionFindings, n: int, own: Phrases) -> pl.DataFrame:
        """Phrases that contributions propose and nobody named, asked about of other shoppers."""
        assert single.finder is not None  # noqa: S101 - it was asked for
        known = self.predictor.preparation_.features_.phrases_ | own
        groups = single.finder.candidates(n, known=known, confidence=self.confidence)
        if not groups:
            self.reporter.warn("no words in a row contribute surely enough to be a candidate")
            return pl.DataFrame()
        others = ~np.isin(self.asked.data.unit, single.sample.unit)
        if not others.any():
            self.reporter.warn(
                "every shopper was explained, so nobody is left to measure found phrases on: "
                "--impressions of fewer"
            )
            return pl.DataFrame()
        titles = TitleEffects(self.asker(others), self.asked.tables, lever=FOUND_PHRASE)
        with self.reporter.progress(len(groups), "phrases found") as advance:
            return titles.ask(groups, self.confidence, advance=advance, warn=self.reporter.warn)


def _own_phrases(
    predictor: PurchasePredictor, phrases: Phrases | None
) -> tuple[set[str], Phrases]:
    """Groups that the model has weights of, and groups that it has to be asked about."""
    learned = predictor.preparation_.features_.phrases_
    if phrases is None:
        return set(learned), {}
    known = {name for name, markets in phrases.items() if learned.get(name) == markets}
    return known, {name: own for name, own in phrases.items() if name not in known}


def _randomised(impressions: pl.DataFrame) -> bool:
    """Whether every offer was assigned at random."""
    if "randomised" not in impressions.columns:
        return False
    return bool(impressions["randomised"].fill_null(value=False).all())


def write(explanation: Explanation, folder: Path) -> list[Path]:
    """Write effects and contrasts; what is known of single impressions is written already.

    Args:
        explanation: what was found.
        folder: where; made if it is not there.

    Returns:
        All files of the explanation.
    """
    tables = {"effects": explanation.effects, "contrasts": explanation.contrasts}
    files = []
    for name, frame in tables.items():
        files.append(folder / f"{name}.parquet")
        write_file(files[-1], frame.write_parquet)
    return files + ([] if explanation.single is None else explanation.single.files)


def check(
    explanation: Explanation, folder: Path, *, seed: int, reporter: Reporter
) -> tuple[list[dict[str, Any]], Path]:
    """Test whether the explanations are true to the model.

    Args:
        explanation: of single impressions too.
        folder: where `faithfulness.json` goes.
        seed: of random orders and weights.
        reporter: tells how far it is.

    Returns:
        The checks as the file holds them, and the file.
    """
    single = explanation.single
    assert single is not None  # noqa: S101 - the command refuses otherwise
    checks = check_explanations(
        single, explanation.effects, confidence=explanation.facts["confidence"], seed=seed,
        reporter=reporter,
    )  # fmt: skip
    file = folder / "faithfulness.json"
    write_json(file, checks)
    return checks, file


def log(explanation: Explanation, files: list[Path], store: StoreSettings) -> None:
    """A run of the explanation in MLflow, with its files.

    Args:
        explanation: what was found.
        files: written.
        store: where runs are kept.
    """
    facts = explanation.facts
    tags = {
        "command": "explain", "market": facts["market"], "scope": "explanation",
        "model": facts["model_version"],
    }  # fmt: skip
    with tracking.start_run(
        store, experiment=facts["data"], run_name=f"explain-{facts['market']}", tags=tags
    ) as logged:
        logged.log_data(facts["fingerprint"], facts["data"], {"used": facts["n_impressions"]})
        # found phrases are any text: no names of figures
        effects = explanation.effects.filter(pl.col("lever") != FOUND_PHRASE)
        logged.log_result(
            {
                f"effect.{e['market']}.{e['phrase'] or e['lever']}": e["logit"]
                for e in effects.iter_rows(named=True)
            }
        )
        for file in files:
            logged.log_file(file)
