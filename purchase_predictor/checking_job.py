"""`explain --check`: every test of explanations, on a part of the impressions explained."""

from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from purchase_predictor.attribution import faithfulness
from purchase_predictor.attribution.contributions import SHAPLEY
from purchase_predictor.attribution.faithfulness import Check
from purchase_predictor.attribution.sampling import sample_lists
from purchase_predictor.cli import Reporter
from purchase_predictor.contributing_job import ContributionFindings

MAX_CHECKED = 256
"""Impressions, about, on which gradients are tested: each costs as much as three explained."""


def check_explanations(
    single: ContributionFindings,
    effects: pl.DataFrame,
    *,
    confidence: float,
    seed: int,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Every test of the explanations that were found.

    Args:
        single: what was found of single impressions.
        effects: as `effects.parquet`.
        confidence: level of the intervals.
        seed: of the rows tested, of random orders and weights.
        reporter: tells how far it is.

    Returns:
        As `faithfulness.json`: `test, method, value, low, high, bound, passed, n` each.
    """
    sample, players = single.sample, single.by_modality[SHAPLEY]
    checks = faithfulness.sums(single.completeness, single.subsets, players, single.logit)
    part = sample_lists(sample, np.ones(len(sample), bool), MAX_CHECKED, seed=seed)
    asked = single.contributions.of(part)
    with reporter.progress(len(asked.sample), "explanations tested") as advance:
        checks += faithfulness.tests_of_gradients(
            asked, confidence=confidence, seed=seed, advance=advance
        )
    checks += faithfulness.same_without_attention(asked, confidence=confidence, seed=seed)
    checks.append(
        faithfulness.violations_of_modalities(single.subsets, players, sample.unit, confidence)
    )
    if single.contributions.trees is not None:
        trees = single.contributions.trees
        checks.append(faithfulness.violations_of_trees(trees, sample, confidence, seed))
    found = pl.scan_parquet(single.files[0])
    for method in single.by_modality:
        if method != SHAPLEY:  # which knows no levers, only modalities
            checks += faithfulness.agreement(found, effects, sample, method)
    for agreed in single.report.attention:
        value, low, high = (x if np.isfinite(x) else None for x in agreed.with_contributions)
        found_by, n = agreed.method, agreed.n
        checks += [
            Check("attention_contributions", found_by, value, low, high, None, None, n),
            Check(
                "attention_effects", found_by, agreed.with_effects, None, None, None, None,
                agreed.n_effects,
            ),
        ]  # fmt: skip
    return [asdict(check) for check in checks]
