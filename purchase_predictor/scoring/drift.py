"""Drift at scoring: how far inputs and scores are from those of the model's test rows."""

from typing import Any

from purchase_predictor.evaluation.stability import psi_by_chance, psi_of_counts
from purchase_predictor.reference import Counts, Histogram, Reference

WARN_PSI = 0.25
"""Above it a distribution counts as another one (Siddiqi 2006, Credit risk scorecards)."""

WARN_RISE = 0.1
"""A share of rows missing or unseen that has risen by this much is told."""

MARKET = "market"
"""The input that others follow: where the mix of markets is another one, so are they."""

MIN_ROWS = 100
"""Rows come in lists and sessions: fewer of them say too little of a distribution to warn."""

CONFIDENCE = 0.95
SHOWN = 5


def drift_report(reference: Reference, counts: Counts, system: str) -> dict[str, Any]:
    """Compare what was scored with the test rows of the model.

    Args:
        reference: of the model.
        counts: of the rows scored, without those of the time that the model learned from
            and of markets that it does not know.
        system: that scored them.

    Returns:
        `n`, `n_before`; `scores`: `system, psi, psi_by_chance`; `inputs`, a list by falling
        index of `input, psi, psi_by_chance, missing, missing_before, unseen, unseen_before`, the
        index being of the values that are there, null where there are none;
        `flags`: `flag, share, share_before`; all of them before meaning in test rows;
        `warnings`: sentences, none where the rows are fewer than `MIN_ROWS`.
    """
    before = reference.counts
    inputs = [
        _moved(name, before.inputs[name], now, before.n, counts.n)
        for name, now in counts.inputs.items()
    ]
    inputs.sort(key=lambda row: (-(row["psi"] or 0.0), row["input"]))
    scores = {"system": system, **_index(before.scores[system], counts.scores[system])}
    flags = [
        {
            "flag": name,
            "share": raised / counts.n,
            "share_before": before.flags.get(name, 0) / before.n,
        }
        for name, raised in counts.flags.items()
    ]
    return {
        "n": counts.n,
        "n_before": before.n,
        "scores": scores,
        "inputs": inputs,
        "flags": flags,
        "warnings": _warnings(scores, inputs) if counts.n >= MIN_ROWS else [],
    }


def table_rows(report: dict[str, Any]) -> list[list[str]]:
    """Scores and the inputs that moved most: name, index, missing and unseen, with test rows."""
    scores = report["scores"]
    rows = [[f"scores of {scores['system']}", _number(scores["psi"]), "", ""]]
    for row in report["inputs"][:SHOWN]:
        shares = [
            f"{row[what]:.1%} ({row[f'{what}_before']:.1%})" for what in ("missing", "unseen")
        ]
        rows.append([row["input"], _number(row["psi"]), *shares])
    return rows


def _moved(name: str, before: Histogram, now: Histogram, n_before: int, n: int) -> dict[str, Any]:
    """One input: the last two places of a histogram are missing and unseen rows."""
    return {
        "input": name,
        **_index(before[:-2], now[:-2]),
        "missing": now[-2] / n,
        "missing_before": before[-2] / n_before,
        "unseen": now[-1] / n,
        "unseen_before": before[-1] / n_before,
    }


def _index(before: list[int], now: list[int]) -> dict[str, float | None]:
    if len(before) < 2 or not sum(before) or not sum(now):
        return {"psi": None, "psi_by_chance": None}
    return {
        "psi": psi_of_counts(before, now),
        "psi_by_chance": psi_by_chance(sum(before), sum(now), len(before), CONFIDENCE),
    }


def _warnings(scores: dict[str, Any], inputs: list[dict[str, Any]]) -> list[str]:
    told = []
    market = next(row for row in inputs if row["input"] == MARKET)
    mixed = _over(market)
    if mixed:
        told.append(
            "the mix of markets is another one than in the rows that the model was tested on (PSI "
            f"{market['psi']:.2f}): inputs and scores that differ between markets have moved with "
            "it, which says nothing of the data"
        )
    if _over(scores) and not mixed:
        told.append(
            f"the scores of {scores['system']} have moved (PSI {scores['psi']:.2f}, over "
            f"{WARN_PSI}): the rows are not like those that the model was tested on"
        )
    moved = [f"{row['input']} {row['psi']:.2f}" for row in inputs if _over(row)]
    if moved and not mixed:
        told.append(
            f"{_some(moved)} moved since the model was tested (PSI over {WARN_PSI}): check the "
            "data (what is told of history, lists and popularity is counted from the earlier "
            "events and impressions of the same folder: are they there?), or train anew"
        )
    for what in ("missing", "unseen"):
        rises = {row["input"]: row[what] - row[f"{what}_before"] for row in inputs}
        rose = [
            f"{row['input']} {row[what]:.0%} ({row[f'{what}_before']:.0%})"
            for row in sorted(inputs, key=lambda row: -rises[row["input"]])
            if rises[row["input"]] > WARN_RISE
        ]
        if rose:
            told.append(f"more rows are {what} than when the model was tested: {_some(rose)}")
    return told


def _over(row: dict[str, Any]) -> bool:
    """Whether an index is over the limit, and not by chance."""
    return row["psi"] is not None and row["psi"] > max(WARN_PSI, row["psi_by_chance"])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
