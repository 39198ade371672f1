"""Robustness: some hundred bad inputs are scored; none may crash, hang, lose or invent a row.

    python benchmarks/robustness.py --model MODEL --data DIR --output docs/robustness.md

Cases are made from a good data folder (its first rows) and a good model folder by
`bad_inputs.py`. Each must end in one of two ways: exit code 0, every impression scored once, in
the order of the input, with a probability, or set aside with a reason; or exit code 2, one
sentence, and no file that looks like a result. Exit code 1 where one did not.
"""

import argparse
import contextlib
import functools
import io
import json
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import polars as pl

from benchmarks.bad_inputs import TABLES, Case, as_csv, every_case
from purchase_predictor import score
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scoring import job as scoring_job

SCORED, SET_ASIDE, REFUSED, FAULT = "scored", "some set aside", "refused", "fault"
N_ROWS = 60
SECONDS = 120
"""After which a case counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        kind: SCORED, SET_ASIDE, REFUSED or FAULT.
        told: the sentence, or what is at fault.
        seconds: it took.
    """

    kind: str
    told: str
    seconds: float


class HangError(Exception):
    """A case took too long."""


def small(data: Path, place: Path, n: int = N_ROWS) -> Path:
    """A good data folder of a few rows: sessions of the first impressions.

    Args:
        data: a good data folder of Parquet files.
        place: that the folder is made in.
        n: impressions.
    """
    folder = place / "good"
    folder.mkdir(parents=True)
    tables = {table: pl.read_parquet(data / f"{table}.parquet") for table in TABLES}
    shown = tables["impressions"].head(n)
    shown = shown.drop("converted", strict=False)
    events = tables["events"].join(shown, on="session_id", how="semi")
    touched = pl.concat([shown["product_id"], events["product_id"]]).drop_nulls().unique()
    products = tables["products"].filter(pl.col("product_id").is_in(touched.implode()))
    for table, rows in zip(TABLES, (products, events, shown), strict=True):
        rows.write_parquet(folder / f"{table}.parquet")
    for image in products["image"].drop_nulls().to_list() if "image" in products.columns else []:
        if (data / image).is_file():
            (folder / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / image, folder / image)
    return folder


def tried(case: Case, good: Path, model: Path, place: Path, system: str) -> Outcome:
    """Score a case and judge how it ended.

    Args:
        case: what is wrong.
        good: data folder.
        model: folder.
        place: an empty folder.
        system: that answers.
    """
    data, bad_model, output = place / "data", place / "model", place / "out" / "scores.parquet"
    shutil.copytree(good, data, symlinks=True)
    spoils_model = case.group.startswith("model folder")
    if spoils_model:
        shutil.copytree(model, bad_model)
    case.spoil(data, bad_model)
    if case.storage == "csv":
        as_csv(data)
    line = ["--model", str(bad_model if spoils_model else model), "--input", str(data)]
    line += ["--output", str(output), "--system", system, "--shard-rows", "80", "--quiet"]
    told = io.StringIO()
    began = time.perf_counter()
    try:
        with _alarm(SECONDS), contextlib.redirect_stderr(told), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = score.main(line)
    except HangError:
        return Outcome(FAULT, f"still running after {SECONDS} s", SECONDS)
    except BaseException as error:  # whatever it is, it is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{type(error).__name__}: {str(error)[:200]}"
        told_at = f"{name} ({Path(last.filename).name}, line {last.lineno})"
        return Outcome(FAULT, told_at, time.perf_counter() - began)
    kind, sentence = judged(code, told.getvalue(), output, data)
    return Outcome(kind, sentence, time.perf_counter() - began)


def judged(code: int, told: str, output: Path, data: Path) -> tuple[str, str]:
    """What became of a case that came to an end.

    Args:
        code: exit code.
        told: on stderr.
        output: where scores would be.
        data: as it was scored.

    Returns:
        The kind, and what was told or is at fault.
    """
    if code == 2:
        left = list(output.parent.iterdir()) if output.parent.is_dir() else []
        if left:
            return FAULT, f"left behind: {', '.join(path.name for path in left)}"
        errors = [part for part in told.split("Error: ")[1:] if part.strip()]
        if len(errors) != 1 or "Traceback" in told:
            return FAULT, f"no sentence: {told[-200:]}"
        return REFUSED, " ".join(errors[0].split())
    if code != 0:
        return FAULT, f"exit code {code}: {told[-200:]}"
    return _accounted(output, data)


def _accounted(output: Path, data: Path) -> tuple[str, str]:
    """See that every row is scored once, in order, or set aside."""
    rows = json.loads(output.with_name("scores.manifest.json").read_text())["rows"]
    scores = pl.read_parquet(output)
    file = data / "impressions.parquet"
    given = pl.scan_parquet(file) if file.exists() else pl.scan_csv(file.with_suffix(".csv"))
    n = given.select(pl.len()).collect().item()
    quarantine = output.with_name("scores.quarantine.parquet")
    aside = pl.DataFrame(schema={"table": pl.String, "row": pl.Int64, "reason": pl.String})
    if quarantine.exists():
        aside = pl.read_parquet(quarantine)
    own = aside.filter(pl.col("table") == "impressions")["row"]
    if own.n_unique() != len(own) or len(scores) + len(own) != n:
        return FAULT, f"{n} rows in, {len(scores)} scored and {len(own)} set aside"
    if rows != {"read": n, "scored": len(scores), "set_aside": len(own)}:
        return FAULT, f"the manifest tells {rows} of {n} rows"
    probability = scores["probability"]
    if not (probability.is_finite() & probability.is_between(0, 1)).all():
        return FAULT, "a probability is no number in [0, 1]"
    kept = given.with_row_index("n").select("n", "impression_id").collect()
    kept = kept.filter(~pl.col("n").cast(pl.Int64).is_in(own.implode()))["impression_id"]
    if kept.cast(pl.String).to_list() != scores["impression_id"].to_list() and not (
        kept.dtype.is_float()
    ):
        return FAULT, "ids are not those of the input, in its order"
    if len(aside):
        return SET_ASIDE, str(aside["reason"].mode().sort()[0])
    return SCORED, ""


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def page(found: list[tuple[Case, Outcome]], system: str) -> str:
    """`docs/robustness.md`."""
    kinds = Counter(outcome.kind for _, outcome in found)
    groups: dict[str, list[tuple[Case, Outcome]]] = defaultdict(list)
    for case, outcome in found:
        groups[case.group].append((case, outcome))
    slowest = max(outcome.seconds for _, outcome in found)
    lines = [
        "# Robustness: what was tried, and how it ended",
        "",
        f"Generated by `benchmarks/robustness.py`: {len(found)} bad inputs, scored by {system} "
        f"in several shards. In {kinds[SCORED]} all rows were scored, in {kinds[SET_ASIDE]} some "
        f"rows were set aside with a reason, {kinds[REFUSED]} were refused with one sentence, "
        f"exit code 2 and nothing left behind; **{kinds[FAULT]} faults**. A fault is a traceback, "
        f"more than {SECONDS} s, a row lost, invented or out of order, a probability that is "
        f"none, or a file that looks like a result after an error. The slowest took "
        f"{slowest:.0f} s.",
        "",
        "A harm befalls every third row unless its name says otherwise; a column harmed in a way "
        "that its type can hold (an unseen brand, a price of 1e308) is scored.",
        "",
        "| what is wrong | cases | scored | some set aside | refused | faults | told, as |",
        "|---|---|---|---|---|---|---|",
    ]
    for group, cases in groups.items():
        n = Counter(outcome.kind for _, outcome in cases)
        told = next((o.told for _, o in cases if o.kind in (REFUSED, SET_ASIDE)), "")
        cells = [group, len(cases), *(n[k] for k in (SCORED, SET_ASIDE, REFUSED, FAULT))]
        lines.append(f"| {' | '.join(map(str, cells))} | {_cell(told)} |")
    faults = [(case, outcome) for case, outcome in found if outcome.kind == FAULT]
    if faults:
        lines += ["", "## Faults", ""]
        lines += [f"- {c.group}, {c.name}: {_cell(outcome.told)}" for c, outcome in faults]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A sentence without the places of this run, as a cell of a table."""
    words = [Path(w).name if w.startswith("/") and "/" in w[1:] else w for w in text.split()]
    shown = " ".join(words).replace("|", "\\|")
    return ascii(shown)[1:-1] if not shown.isprintable() else shown[:160]


def main() -> int:
    """Try every case, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a good model folder")
    parser.add_argument("--data", type=Path, required=True, help="a good folder of Parquet files")
    parser.add_argument("--work", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--output", type=Path, required=True, help="Markdown file")
    parser.add_argument("--system", default="fusion")
    parser.add_argument("--only", default="", help="groups that hold this text")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    good = small(options.data, options.work)
    load = PurchasePredictor.load
    kept: Any = functools.lru_cache(load)
    found = []
    for number, case in enumerate(every_case(good, options.model)):
        if options.only not in case.group:
            continue
        place = options.work / "case"
        shutil.rmtree(place, ignore_errors=True)
        # the good model is read once; bad ones are read as users' are
        bad = case.group.startswith("model folder")
        scoring_job.PurchasePredictor.load = load if bad else kept  # type: ignore[method-assign]
        outcome = tried(case, good, options.model, place, options.system)
        found.append((case, outcome))
        if outcome.kind == FAULT:
            print(f"{number} {case.group}, {case.name}: {outcome.told}", flush=True)
        elif number % 50 == 0:
            print(f"{number} cases tried", flush=True)
    options.output.write_text(page(found, options.system), "utf-8")
    return int(any(outcome.kind == FAULT for _, outcome in found))


if __name__ == "__main__":
    sys.exit(main())
