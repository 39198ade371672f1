"""Figures of `metrics.json` in words: which are quoted, and how they are written."""

from typing import Any

from purchase_predictor.evaluation.gap import DIGITS

METRIC_NAMES = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "normalised_entropy": "Normalised entropy",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "slope": "Calibration slope",
    "mean_ratio": "Mean prediction / rate",
    "lift_10": "Lift at 10 %",
    "mrr": "Mean reciprocal rank",
}

NOTHING = "–"
"""Stands where a figure is not defined."""

SMALLEST_P = 0.001
"""Smaller p-values are told as being so: their digits rest on the tail of a distribution."""

Result = dict[str, Any]
Figure = dict[str, float | None]


def quoted_scope(result: Result) -> str:
    """Which scope stands for a run: `macro`, or `pooled` where fewer than two are averaged.

    Args:
        result: what `evaluate` returned.
    """
    return "macro" if len(result["markets_averaged"]) > 1 else "pooled"


def describe_scope(result: Result) -> str:
    """The quoted scope in words."""
    if quoted_scope(result) == "macro":
        return f"average over {len(result['markets_averaged'])} markets"
    markets = _markets(result)
    return f"market {markets[0]}" if len(markets) == 1 else "all markets pooled"


def scopes(result: Result, *, every: bool = False) -> list[tuple[str, str]]:
    """Scopes worth a row, and their labels: the quoted one, then markets by conversions.

    Args:
        result: what `evaluate` returned.
        every: also the pooled rows beside an average, and the markets left out of it.
    """
    markets = _markets(result)
    kept = markets if every else [m for m in markets if m in result["markets_averaged"]]
    first = [] if len(markets) == 1 else [(quoted_scope(result), "pooled")]
    if quoted_scope(result) == "macro":
        first = [("macro", "average"), *([("pooled", "pooled")] if every else [])]
    return [*first, *((market, market) for market in (kept if first else markets))]


def figures_of(system: Result, scope: str) -> Result:
    """All figures of one system in one scope.

    Args:
        system: an entry of `systems` or `ceilings`.
        scope: macro, pooled or a market.
    """
    found: Result = system[scope] if scope in ("macro", "pooled") else system["markets"][scope]
    return found


def figure(system: Result, scope: str, metric: str) -> Figure:
    """`value`, `low` and `high` of one metric of one system in one scope."""
    whole = figures_of(system, scope)[metric]
    return {key: whole[key] for key in ("value", "low", "high")}


def level(result: Result) -> str:
    """The level of the intervals, as in `95 %`, with a space that does not break."""
    return f"{result['intervals']['confidence'] * 100:g}\N{NO-BREAK SPACE}%"


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or a dash; the minus sign is one."""
    return NOTHING if value is None else format(value, form).replace("-", "−")


def text(found: Figure, form: str = ".3f") -> str:
    """A figure with its interval, as in `0.769 (0.760–0.778)`."""
    if found["value"] is None or found["low"] is None:
        return number(found["value"], form)
    between = " to " if "+" in form else "–"
    bounds = f"{number(found['low'], form)}{between}{number(found['high'], form)}"
    return f"{number(found['value'], form)} ({bounds})"


def gap_text(gap: Figure) -> str:
    """A gap beside its verdict, with the digits that the verdict looks at (`gap.DIGITS`)."""
    return text(gap, f"+.{DIGITS}f")


def p_text(p: float | None) -> str:
    """A p-value, never as zero, which it cannot be; a dash where nothing was tested."""
    return f"< {SMALLEST_P}" if p is not None and p < SMALLEST_P else number(p)


def _markets(result: Result) -> list[str]:
    markets = next(iter(result["systems"].values()))["markets"] if result["systems"] else {}
    return sorted(markets, key=lambda name: (-markets[name]["n_positive"], name))
