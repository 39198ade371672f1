"""Tables out of the results of `quality.py` and of `tune`: nothing in them is typed.

    python benchmarks/table.py runs/claims.json runs/trivago.json runs/tuned/trials.json

Writes `docs/quality.md` and rewrites the block between the two marks `<!-- quality -->` and
`<!-- /quality -->` of both READMEs. Each file of `quality.py` is one section; its data folders are
taken as draws of the same thing (worlds of a simulated marketplace) and averaged in the README.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.comparing import GAP_METRICS
from purchase_predictor.checkpoint import write_file
from purchase_predictor.errors import UserError
from purchase_predictor.evaluation.metrics import HIGHER_IS_BETTER
from purchase_predictor.evaluation.summary import BASELINE
from purchase_predictor.report.figures import (
    METRIC_NAMES,
    NOTHING,
    describe_scope,
    figure,
    number,
    quoted_scope,
    text,
)

READMES = [Path("README.md"), Path("README.ko.md")]
BEGIN, END = "<!-- quality -->", "<!-- /quality -->"
QUALIFIED = 300
"""Test conversions from which a market's calibration is judged."""

SHORT = {
    "auc": "AUC", "average_precision": "AP", "normalised_entropy": "NE", "ece": "ECE",
    "mrr": "MRR", "log_loss": "log-loss",
}  # fmt: skip
FIGURES = ("auc", "average_precision", "normalised_entropy", "ece", "mrr")

Run = Mapping[str, Any]


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def title_of(run: Run) -> str:
    """Data, seed and the scope quoted."""
    return f"{run['data']}, seed {run['seed']}"


def system_rows(run: Run) -> list[list[str]]:
    """Figures with intervals and costs of each system of a run, then its ceilings."""
    scope = quoted_scope(dict(run))
    rows = []
    for name, system in run["systems"].items():
        reached, cost = run["shares"][name][scope], run["costs"][name]
        closed = system[scope].get("share_closed")
        rows.append(
            [
                name,
                *(text(figure(system, scope, metric)) for metric in FIGURES),
                text(figure(system, "pooled", "auc")),
                NOTHING if closed is None else text(closed, ".1%"),
                number(run["levelled_shares"].get(name), ".1%"),
                number(reached.get("fitted"), ".1%"),
                f"{cost['fit_s']:,.0f}",
                f"{cost['rows_per_s']:,.0f}",
                f"{cost['peak_gb']:.1f}",
            ]
        )
    for name, ceiling in run["ceilings"].items():
        figures = [text(figure(ceiling, scope, metric)) for metric in FIGURES]
        pooled = text(figure(ceiling, "pooled", "auc"))
        rows.append([f"*{name} ceiling*", *figures, pooled, *[NOTHING] * 6])
    return rows


def run_section(run: Run) -> str:
    """One run: what was judged, figures, gaps."""
    scope = quoted_scope(dict(run))
    quoted = next(iter(run["systems"].values()))[scope]
    facts = run["facts"]
    auc = facts["click_auc"]
    clicks = " and ".join(f"{number(value)} on {part} rows" for part, value in auc.items())
    said = (
        f"{describe_scope(dict(run)).capitalize()}; {facts['n_train']:,} training rows with "
        f"{facts['n_train_conversions']:,} conversions, {quoted['n']:,} test rows with "
        f"{quoted['n_positive']:,} conversions of {quoted['n_units']:,} users. Encoders, features "
        f"and pre-training, which all systems share, took {facts['prepare_s']:,.0f} s"
        + (f"; the next-click score alone has AUC {clicks}." if auc else ".")
    )
    heads = [
        "system", *(SHORT[m] for m in FIGURES), "pooled AUC", "way to observable ceiling",
        "the same, level put right", "way to third ceiling", "fit s", "rows/s", "peak GB",
    ]  # fmt: skip
    return "\n\n".join(
        [f"### {title_of(run)}", said, markdown(heads, system_rows(run)), gap_table(run)]
    )


def gap_table(run: Run) -> str:
    """Every system against LightGBM in the quoted scope; empty without LightGBM."""
    scope = quoted_scope(dict(run))
    found = {
        (gap["arm"], gap["metric"]): text(gap, "+.4f")
        for gap in run["gaps"]
        if gap["scope"] == scope
    }
    arms = list(dict.fromkeys(arm for arm, _ in found))
    rows = [
        [f"{arm} − {BASELINE}", *(found.get((arm, m), NOTHING) for m in GAP_METRICS)]
        for arm in arms
    ]
    return markdown(["difference", *(SHORT[m] for m in GAP_METRICS)], rows) if rows else ""


def is_better(gap: Mapping[str, Any]) -> bool:
    """Whether the interval of a gap is clear of zero on the arm's side."""
    if gap["low"] is None:
        return False
    return bool(gap["low"] > 0 if HIGHER_IS_BETTER[gap["metric"]] else gap["high"] < 0)


def is_worse(gap: Mapping[str, Any]) -> bool:
    """Whether the interval of a gap is clear of zero on the other side."""
    if gap["low"] is None:
        return False
    return bool(gap["high"] < 0 if HIGHER_IS_BETTER[gap["metric"]] else gap["low"] > 0)


def tally(runs: Sequence[Run]) -> str:
    """In how many runs each system is better or worse than LightGBM, clear of zero."""
    counts: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        for gap in run["gaps"]:
            if gap["scope"] == quoted_scope(dict(run)) and gap["value"] is not None:
                counts.setdefault((gap["arm"], gap["metric"]), []).append(gap)
    rows = [
        [
            f"{arm} − {BASELINE}", METRIC_NAMES[metric],
            number(mean(gap["value"] for gap in gaps), "+.4f"),
            f"{sum(map(is_better, gaps))} of {len(gaps)}",
            f"{sum(map(is_worse, gaps))} of {len(gaps)}",
        ]
        for (arm, metric), gaps in counts.items()
    ]  # fmt: skip
    heads = ["difference", "metric", "mean", "better, clear of zero", "worse, clear of zero"]
    return markdown(heads, rows) if rows else ""


def seeds_table(gaps: Sequence[Mapping[str, Any]]) -> str:
    """Mean differences over seeds, their interval over users and seeds."""
    rows = [
        [
            gap["data"], f"{gap['arm']} − {gap['against']}", METRIC_NAMES[gap["metric"]],
            gap["scope"], text(dict(gap), "+.4f"), str(gap["n_seeds"]),
        ]
        for gap in gaps
    ]  # fmt: skip
    return markdown(["data", "difference", "metric", "scope", "mean", "seeds"], rows)


def calibration_table(runs: Sequence[Run]) -> str:
    """Calibration of every system on markets with conversions enough, and on all pooled."""
    rows = [
        [
            title_of(run), row["system"], row["market"], f"{row['n_positive']:,}",
            number(row["ece_share"], ".1%"), number(row["slope"], ".2f"),
            number(row["mean_ratio"], ".2f"), number(row["ratio_to_best"], ".2f"),
            number(row["best_ece_share"], ".1%"),
        ]
        for run in runs
        for row in run["calibration"]
        if row["n_positive"] >= QUALIFIED
    ]  # fmt: skip
    heads = [
        "data", "system", "market", "conversions", "ECE / base rate", "slope",
        "mean prediction / rate", "mean prediction / best observable",
        "ECE of the best observable / base rate",
    ]  # fmt: skip
    return markdown(heads, rows) if rows else ""


def drops_table(runs: Sequence[Run]) -> str:
    """What the fusion's log-loss loses without each modality, and in which markets it is told."""
    rows = []
    for run in runs:
        gaps = [gap for gap in run["drops"] if gap["metric"] == "log_loss"]
        for arm in dict.fromkeys(gap["arm"] for gap in gaps):
            own = {gap["market"]: gap for gap in gaps if gap["arm"] == arm}
            markets = [gap for gap in own.values() if gap["scope"] == "market"]
            told = [gap["market"] for gap in markets if is_worse(gap)]
            rows.append(
                [
                    title_of(run), arm, text(own["macro"], "+.5f"), text(own["pooled"], "+.5f"),
                    f"{len(told)} of {len(markets)}", ", ".join(told) or NOTHING,
                ]
            )  # fmt: skip
    heads = ["data", "fusion with", "macro", "pooled", "markets worse, clear of zero", "which"]
    return markdown(heads, rows) if rows else ""


def tuning_table(documents: Sequence[Mapping[str, Any]]) -> str:
    """Trials, seconds and log-loss before and after of each system."""
    rows = [
        [
            document["data"], name, str(told["n_trials"]), f"{told['seconds']:,.0f}",
            number(told["start_log_loss"], ".5f"), number(told["log_loss"], ".5f"),
        ]
        for document in documents
        for name, told in document["systems"].items()
    ]  # fmt: skip
    heads = ["data", "system", "trials", "seconds", "log-loss at the start", "best log-loss"]
    return markdown(heads, rows)


def quality_page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The whole of `docs/quality.md`."""
    quality = [one for one in documents if one.get("benchmark") == "quality"]
    tuning = [one for one in documents if "ranked_by" in one]
    first = quality[0]["runs"][0]["intervals"]
    parts = [
        "# Quality\n\nMade by `python benchmarks/table.py` from the results of "
        "`benchmarks/quality.py`; do not edit. Every system learns from the same rows and is "
        "calibrated on the same validation rows; the test rows lie in the future of both. "
        f"{first['confidence'] * 100:g} % intervals: {first['resamples']:,} resamples of "
        f"{first['resampled']}, the same for all systems. Every difference is *arm − against*. "
        "NE is normalised entropy (lower is better); the way to a ceiling is "
        "(1 − NE) / (1 − NE of the ceiling). MRR: lists shown together. Fit seconds and peak "
        "memory are those of the process that fits one system after the other; rows/s is the "
        "scoring of encoded rows."
    ]
    if tuning:
        parts.append(
            "## Tuning\n\nThe systems that were tuned; the others keep their defaults. Trials "
            "are ranked by "
            f"{tuning[0]['ranked_by']} ({tuning[0]['sampler']}).\n\n{tuning_table(tuning)}"
        )
    for document in quality:
        parts += section(document)
    return "\n\n".join(part for part in parts if part) + "\n"


def section(document: Mapping[str, Any]) -> list[str]:
    """All that one results file says."""
    runs = document["runs"]
    names = ", ".join(dict.fromkeys(run["data"] for run in runs))
    settings = "default settings" if document["config"] is None else f"`{document['config']}`"
    parts = [f"## {names}\n\nSettings: {settings}{''.join(f', `{s}`' for s in document['set'])}."]
    if len(runs) > 1 and (counted := tally(runs)):
        parts.append(f"Over the {len(runs)} runs:\n\n{counted}")
    parts += [run_section(run) for run in runs]
    if document["over_seeds"]:
        parts.append(
            "### Over seeds\n\nA resample draws users and seeds, so the interval holds both "
            f"sources of variance.\n\n{seeds_table(document['over_seeds'])}"
        )
    if found := calibration_table(runs):
        told = f"Markets with {QUALIFIED} test conversions or more; `all` is all rows pooled."
        parts.append(f"### Calibration\n\n{told}\n\n{found}")
    if found := drops_table(runs):
        parts.append(
            "### Without a modality\n\nThe fusion retrained, pre-training included; a "
            f"difference in log-loss above zero is what the modality is worth.\n\n{found}"
        )
    return parts


def readme_block(documents: Sequence[Mapping[str, Any]]) -> str:
    """The short table: one row for each results file and system."""
    rows = []
    for document in documents:
        if document.get("benchmark") == "quality":
            rows += _short_rows(document)
    heads = [
        "data", "system", "AUC", "AP", "NE", "ECE", "MRR", "way to ceiling", "AUC − LightGBM",
        "NE − LightGBM",
    ]  # fmt: skip
    return markdown(heads, rows)


def _short_rows(document: Mapping[str, Any]) -> list[list[str]]:
    runs = document["runs"]
    names = list(dict.fromkeys(run["data"] for run in runs))
    label = ", ".join(names)
    seeds = len(runs) > len(names) == 1
    label += f" (mean of {len(runs)}{' seeds' if seeds else ''})" if len(runs) > 1 else ""
    rows = []
    for name in runs[0]["systems"]:
        found = [(run["systems"][name], quoted_scope(dict(run)), run) for run in runs]
        cells = [
            _mean_of([figure(system, scope, metric)["value"] for system, scope, _ in found])
            for metric in FIGURES
        ]
        reached = [run["shares"][name][scope].get("observable") for _, scope, run in found]
        gaps = [
            _gap_over_seeds(document, name, metric) if seeds else _short_gap(runs, name, metric)
            for metric in ("auc", "normalised_entropy")
        ]
        rows.append([label, name, *cells, _mean_of(reached, ".1%"), *gaps])
    return rows


def _mean_of(values: Sequence[float | None], form: str = ".3f") -> str:
    known = [value for value in values if value is not None]
    return number(mean(known), form) if len(known) == len(values) else NOTHING


def _gap_over_seeds(document: Mapping[str, Any], arm: str, metric: str) -> str:
    """The mean gap of seeds on one data folder, its interval over users and seeds."""
    scope = quoted_scope(dict(document["runs"][0]))
    wanted = {"arm": arm, "metric": metric, "scope": scope}
    for gap in document["over_seeds"]:
        if wanted.items() <= gap.items():
            return text(gap, "+.4f")
    return NOTHING


def _short_gap(runs: Sequence[Run], arm: str, metric: str) -> str:
    """The gap with its interval, or of several runs the mean and how many are clear of zero."""
    gaps = [
        gap
        for run in runs
        for gap in run["gaps"]
        if gap["arm"] == arm
        and gap["metric"] == metric
        and gap["scope"] == quoted_scope(dict(run))
    ]
    if not gaps:
        return NOTHING
    if len(gaps) == 1:
        return text(gaps[0], "+.4f")
    value = _mean_of([gap["value"] for gap in gaps], "+.4f")
    return f"{value}; better in {sum(map(is_better, gaps))}, worse in {sum(map(is_worse, gaps))}"


def with_block(page: str, block: str, name: str) -> str:
    """A page with the text between the two marks replaced.

    Raises:
        UserError: the page has not both marks once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise UserError(f"{name} must hold {BEGIN} and after it {END}, each once")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}"


def _results(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    packed = file.suffix == ".gz"
    document: dict[str, Any] = json.loads(gzip.decompress(content) if packed else content)
    if document.get("benchmark") != "quality" and "ranked_by" not in document:
        raise UserError(f"{file} is neither of quality.py nor trials.json of tune")
    return document


def main(arguments: list[str] | None = None) -> int:
    """Read results, write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="JSON of quality.py and tune, .gz too")
    parser.add_argument("--docs", type=Path, default=Path("docs/quality.md"))
    parser.add_argument("--readme", type=Path, nargs="+", default=READMES)
    options = parser.parse_args(arguments)
    try:
        documents = [_results(file) for file in options.files]
        if not any(one.get("benchmark") == "quality" and one["runs"] for one in documents):
            raise UserError("none of the files has a run of benchmarks/quality.py")
        page, short = quality_page(documents), readme_block(documents)
        readmes = {
            file: with_block(file.read_text("utf-8"), short, str(file)) for file in options.readme
        }
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_file(options.docs, lambda path: path.write_text(page, "utf-8"))
    for file, readme in readmes.items():
        write_file(file, lambda path, readme=readme: path.write_text(readme, "utf-8"))
    print("written:", *[options.docs, *readmes])
    return 0


if __name__ == "__main__":
    sys.exit(main())
