"""Charts of a study: how the best log-loss came down, and which settings mattered."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from purchase_predictor.report.figures import number
from purchase_predictor.report.pages import Chart
from purchase_predictor.report.style import LONG_LABEL_LIMIT, finished

BLUE, DOTS = "#0072b2", "#8a8a8a"


def history_chart(system: str, found: Mapping[str, Any]) -> Chart:
    """Log-loss of every trial, and the best so far.

    Args:
        system: name.
        found: its entry in `trials.json`.
    """
    losses = [trial["log_loss"] for trial in found["trials"]]
    points = pl.DataFrame(
        {
            "trial": [trial["number"] + 1 for trial in found["trials"]],
            "log_loss": losses,
            "best": pl.Series(losses, dtype=pl.Float64).cum_min(),
        }
    )
    scale = alt.Scale(zero=False)
    base = alt.Chart(points).encode(x=alt.X("trial:Q", title="Trial", axis=alt.Axis(format="d")))
    dots = base.mark_point(filled=True, color=DOTS, size=40).encode(
        y=alt.Y("log_loss:Q", title="Log-loss on stopping rows", scale=scale),
        tooltip=["trial:Q", alt.Tooltip("log_loss:Q", format=".5f")],
    )
    line = base.mark_line(interpolate="step-after", color=BLUE).encode(
        y=alt.Y("best:Q", scale=scale)
    )
    return finished(
        dots + line,
        title=f"{system}: trials",
        note=(
            f"Each point is a trial; the line is the best so far. {found['n_pruned']} of "
            f"{found['n_trials']} trials were given up early and have no point."
        ),
        table={
            "columns": ["Trial", "Log-loss", "Settings"],
            "rows": [
                [
                    str(trial["number"] + 1),
                    number(trial["log_loss"], ".5f"),
                    ", ".join(f"{key}={value}" for key, value in trial["values"].items()),
                ]
                for trial in found["trials"]
            ],
        },
        height=260,
    )


def importance_chart(system: str, found: Mapping[str, Any]) -> Chart:
    """Share of the variance of the log-loss that each setting explains.

    Args:
        system: name.
        found: its entry in `trials.json`.
    """
    shares = found["importance"]
    points = pl.DataFrame(
        {"setting": list(shares), "share": list(shares.values())},
        schema={"setting": pl.String, "share": pl.Float64},
    )
    bars = (
        alt.Chart(points)
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("share:Q", title="Share of the variance", axis=alt.Axis(format="%")),
            y=alt.Y(
                "setting:N", title=None, sort="-x", axis=alt.Axis(labelLimit=LONG_LABEL_LIMIT)
            ),
            tooltip=["setting:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    best = found["best"]
    return finished(
        bars,
        title=f"{system}: which settings mattered",
        note="fANOVA over the trials of this range; with few trials it is a hint, not a finding.",
        table={
            "columns": ["Setting", "Importance", "Best"],
            "rows": [
                [key, number(share, ".2f"), str(best.get(key, ""))]
                for key, share in shares.items()
            ],
        },
        height=alt.Step(24),
    )
