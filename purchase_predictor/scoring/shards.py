"""Scoring a data folder larger than memory: shard by shard, the numbers those of `predict_proba`.

A unit's history must lie in one shard, and only its sessions tell which unit a row belongs to. So
rows are laid out on disk twice, by polars' streaming engine: by a hash of the session, where they
are checked and every session finds its unit, then by a hash of the unit, where they are encoded
and scored. Both are linear in the rows, and so is the number of files; the checked rows lie there
twice for a while. The catalogue is encoded once and lies on disk, too. Peak memory rises a little
with the shards (docs/decisions.md, "Scoring").

The rows laid out by unit are one step of a `WorkFolder`, each scored shard is another: a run that
was killed goes on with those that were finished.
"""

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from features.checking import check_table, nothing_left
from features.clickstream import session_units
from features.coercion import read_as
from features.context import as_fitted
from features.errors import DataError
from features.heap import map_large_arrays
from features.reading import ROW, collect, read_folder, stored_schema
from features.rules import Events, Impressions, reason
from features.schema import Tables
from purchase_predictor.encoders.content import silent
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.reference import Counts
from purchase_predictor.scoring.engines import Engine, LocalEngine
from purchase_predictor.scoring.scorer import SHARD, UNITS, ShardScorer, read_parts
from purchase_predictor.scoring.work import WorkFolder
from purchase_predictor.training.loop import Progress

SHARD_ROWS = 100_000
"""Impressions and events in a shard, about: some hundred megabytes while it is scored."""

ROWS_HELD = 200_000
"""In row groups that are not full yet: a sink holds one of every part, and there are as many parts
as there are shards. With groups of the usual size that was all of ten million rows, 2 GB."""

FEWEST_A_GROUP, MOST_A_GROUP = 500, 10_000
"""Rows of such a group; files of small groups are slow to read."""

SMALL_CHUNKS = partial(pl.Config, set_streaming_chunk_size=10_000)
"""What is on its way from input to parts: with 100,000 rows a chunk half a gigabyte more."""

PART = "part"
SESSIONS, IDS, CHECKED, ASIDE = "sessions", "ids", "checked", "aside"
"""Folders: rows by session, ids of impressions, rows that can be used, and rows that cannot."""

LAID_OUT = "laid-out"
"""The step after which all rows lie by unit; another name once they come to lie otherwise, so
that no run goes on from rows that it does not find."""

REPEATED = reason("impression_id_repeats")


class UnusableError(DataError):
    """None of the impressions can be used: there is nothing to go on with."""


@dataclass(frozen=True)
class ScoredShards:
    """What became of the rows.

    Attributes:
        n_read: impressions of the input.
        n_scored: impressions scored.
        n_set_aside: rows of any table that could not be used.
        n_shards: in how many pieces.
        counts: of inputs and scores in the model's bins; None where the model has no bins.
    """

    n_read: int
    n_scored: int
    n_set_aside: int
    n_shards: int
    counts: Counts | None


def score_shards(
    predictor: PurchasePredictor,
    data: Path,
    output: Path,
    *,
    system: str | None = None,
    shard_rows: int = SHARD_ROWS,
    work: WorkFolder | None = None,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> ScoredShards:
    """Score a data folder into a Parquet file, in memory that hardly grows with its rows.

    What concerns a column as a whole (no value can be read, most discounts look like percent) is
    judged within each hash of sessions. The first row of an id counts, whether or not it can be
    used.

    Args:
        predictor: a fitted model.
        data: a data folder; labels are not needed.
        output: written whole or not at all: `impression_id, market, probability, flags`, in the
            order of the input; beside it `NAME.quarantine.parquet`, the rows set aside, if any.
        system: that answers; the champion by default.
        shard_rows: impressions and events in a shard, about.
        work: where rows are spilled and finished shards are kept, up to twice as large as the
            data; by default a folder beside the output that goes with the call.
        engine: where shards are scored, by default in this process.
        progress: told a line for each shard.

    Raises:
        UnusableError: none of the impressions can be used.
        DataError: the data cannot be used.
        SettingsError: the model has no such system.
        UserError: the working folder has no room for the encoded catalogue.
    """
    name, engine = predictor.system_named(system), engine or LocalEngine()
    output.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if work is None:
            folder = tempfile.TemporaryDirectory(dir=output.parent, prefix=".shards-")
            work = WorkFolder(Path(stack.enter_context(folder)))
        map_large_arrays()  # it stays so: shard after shard, for hours
        scorer = ShardScorer(predictor, read_folder(data), work)
        shards = _Shards(scorer, shard_rows)
        n_set_aside = shards.spill(progress)
        shards.refuse_unusable()
        n_scored, counts = _scored(engine.finish(scorer, shards.n_shards, name), progress)
        # its files are open and have no names, which some file systems (NFS) do not bear when the
        # folder goes; and scores are brought into order without it
        scorer.catalogue = None
        shards.write_scores(output)
        shards.write_quarantine(output.with_name(f"{output.stem}.quarantine.parquet"))
    return ScoredShards(
        shards.n_impressions,
        n_scored,
        n_set_aside,
        shards.n_shards,
        None if predictor.reference_ is None else counts,
    )


def _scored(
    finished: Iterator[tuple[int, dict[str, Any]]], progress: Progress
) -> tuple[int, Counts]:
    """How many rows were scored, and their counts, once all shards are finished."""
    n_scored, counts = 0, Counts()
    for _, facts in finished:  # whole numbers: in whatever order they come, sums are the same
        n_scored += facts["n_scored"]
        counts.add(Counts(**facts["counts"]))
        progress(f"scored {n_scored:,} rows")
    return n_scored, counts


class _Shards:
    """Rows on disk, by session and by unit."""

    def __init__(self, scorer: ShardScorer, shard_rows: int) -> None:
        self.scorer, self.raw, self.work = scorer, scorer.raw, scorer.work
        self.folder, raw = self.work.folder, self.raw
        given = {"impressions": raw.impressions, "events": raw.events}
        self.tables = {table: frame for table, frame in given.items() if frame is not None}
        counts = {table: self._count(table) for table in self.tables}
        if not counts["impressions"]:
            raise DataError("The table 'impressions' has no rows.")
        self.n_impressions = counts["impressions"]
        self.n_shards = max(1, math.ceil(sum(counts.values()) / shard_rows))

    def spill(self, progress: Progress) -> int:
        """Lay the rows out by session, check them, lay them out by unit.

        Returns:
            How many rows are set aside.
        """
        facts = self.work.facts(LAID_OUT)
        if facts is not None:
            progress(f"the rows of all {self.n_shards} parts were checked before")
            return int(facts["n_set_aside"])
        self.work.clear(SESSIONS, IDS, CHECKED, UNITS, ASIDE)
        (self.folder / ASIDE).mkdir()
        self._set_aside(self.scorer.products_set_aside, "products")
        for table in self.tables:
            self._by_hash(table, "session_id", self.folder / SESSIONS / table)
        self._by_hash("impressions", "impression_id", self.folder / IDS, ["impression_id"])
        repeated = self._repeated_rows()
        progress(f"checking the rows, in parts: {self.n_shards}")
        for table in self.tables:
            (self.folder / CHECKED / table).mkdir(parents=True)
        for part in range(self.n_shards):
            self._check_part(part, repeated)
        for table in self.tables:
            self._by_unit(table)
        aside = sorted((self.folder / ASIDE).iterdir())
        n_set_aside = sum(pl.scan_parquet(f).select(pl.len()).collect().item() for f in aside)
        spilled = [file for file in (self.folder / UNITS).rglob("*") if file.is_file()]
        self.work.finish(LAID_OUT, [*aside, *spilled], {"n_set_aside": n_set_aside}, flush=False)
        return n_set_aside

    def refuse_unusable(self) -> None:
        """Refuse impressions that are all set aside.

        Raises:
            UnusableError: tells the commonest reason.
        """
        if any((self.folder / ASIDE).iterdir()):
            aside = pl.scan_parquet(self.folder / ASIDE / "*.parquet")
            own = aside.filter(pl.col("table") == "impressions")
            if own.select(pl.len()).collect().item() == self.n_impressions:
                raise UnusableError(nothing_left("impressions", own.select("reason").collect()))

    def _check_part(self, part: int, repeated: pl.DataFrame) -> None:
        """Check a hash of sessions, and find the shard of its good rows."""
        tables = self._checked(part, repeated)
        units = session_units(tables).select(
            "session_id", (pl.col("unit").hash() % self.n_shards).alias(SHARD)
        )
        frames = {"impressions": tables.impressions, "events": tables.events}
        for table in self.tables:
            rows = frames[table].join(units, on="session_id")
            file = self.folder / CHECKED / table / f"{part:09}.parquet"
            rows.write_parquet(file, row_group_size=MOST_A_GROUP)
            shutil.rmtree(self.folder / SESSIONS / table / f"{PART}={part}", True)

    def _by_unit(self, table: str) -> None:
        """Lay the good rows of a table out by shard, all hashes of sessions at once.

        A folder for each pair of hash and shard would be 59,000 files at ten million impressions.
        """
        checked = self.folder / CHECKED / table
        target = pl.PartitionBy(self.folder / UNITS / table, key=SHARD, include_key=False)
        with SMALL_CHUNKS():
            self._sink(pl.scan_parquet(checked), target).collect()
        shutil.rmtree(checked)

    def write_scores(self, output: Path) -> None:
        """Bring the scores into the order of the input, in one file that appears when whole."""
        self.work.clear("rows", "ordered")  # of a run that was killed here
        # a stretch of rows at a time: to merge the sorted files would hold all of them
        stretch = math.ceil(self.n_impressions / self.n_shards)
        target = pl.PartitionBy(
            self.folder / "rows", key={PART: pl.col(ROW) // stretch}, include_key=False
        )
        scores = pl.scan_parquet(self.folder / "scores-*.parquet")
        with SMALL_CHUNKS():
            self._sink(scores, target).collect()
        ordered = self.folder / "ordered"
        ordered.mkdir()
        for number in range(self.n_shards):
            rows = read_parts(self.folder / "rows" / f"{PART}={number}")
            if rows is not None:
                rows.drop(ROW).write_parquet(ordered / f"{number:09}.parquet")
        pl.scan_parquet(ordered).sink_parquet(self.folder / "scores.parquet")
        shutil.move(self.folder / "scores.parquet", output)

    def write_quarantine(self, output: Path) -> None:
        """Bring together the rows set aside, if there are any."""
        output.unlink(missing_ok=True)
        if any((self.folder / ASIDE).iterdir()):
            rows = pl.scan_parquet(self.folder / ASIDE / "*.parquet")
            rows.sort("table", ROW).sink_parquet(self.folder / "quarantine.parquet")
            shutil.move(self.folder / "quarantine.parquet", output)

    def _count(self, table: str) -> int:
        frame = self.tables[table].select(pl.len())
        return int(collect(frame, table, self.raw.files.get(table, ())).item())

    def _by_hash(
        self, table: str, key: str, folder: Path, columns: list[str] | None = None
    ) -> None:
        """Write the rows of a table into a folder for each hash of a column."""
        frame, files = self.tables[table], self.raw.files.get(table, ())
        stored = stored_schema(frame, table, files)
        if key not in stored:  # the check tells it in a sentence, whatever part it looks at
            hashed = pl.lit(0, pl.UInt64)
        else:
            # as the contract reads it: 12 and 12.0 are one session
            hashed = read_as(key, stored[key], pl.String(), table).value.hash()
        if columns is not None:
            frame = frame.select(ROW, *(name for name in columns if name in stored))
        target = pl.PartitionBy(
            folder,
            key={PART: hashed % self.n_shards},
            include_key=False,
        )
        with SMALL_CHUNKS():
            collect(self._sink(frame, target), table, files)

    def _sink(self, rows: pl.LazyFrame, parts: pl.PartitionBy) -> pl.LazyFrame:
        """A query that writes rows into parts, as many as there are shards."""
        size = min(max(ROWS_HELD // self.n_shards, FEWEST_A_GROUP), MOST_A_GROUP)
        return rows.sink_parquet(parts, row_group_size=size, mkdir=True, lazy=True)

    def _repeated_rows(self) -> pl.DataFrame:
        """`row` and `key` of the impressions whose id an earlier row has."""
        found = []
        for part in range(self.n_shards):
            rows = read_parts(self.folder / IDS / f"{PART}={part}")
            if rows is None or "impression_id" not in rows.columns:
                continue
            key = pl.col("impression_id")
            later = rows.filter(key.is_not_null() & ~key.is_first_distinct())
            found.append(later.select(ROW, key=key.cast(pl.String)))
        shutil.rmtree(self.folder / IDS, ignore_errors=True)
        return (
            pl.concat(found) if found else pl.DataFrame(schema={ROW: pl.Int64, "key": pl.String})
        )

    def _checked(self, part: int, repeated: pl.DataFrame) -> Tables:
        """The good rows of a hash of sessions; the others are set aside."""
        shown, clicks = (self._session_part(table, part) for table in ("impressions", "events"))
        if shown is not None:
            again = repeated.join(shown.select(ROW).collect(), on=ROW, how="semi")
            shown = shown.join(again.lazy(), on=ROW, how="anti", maintain_order="left")
            self._set_aside(
                again.select(
                    pl.lit("impressions").alias("table"), ROW, "key", reason=pl.lit(REPEATED)
                ),
                f"repeated-{part}",
            )
        impressions = check_table(
            shown, "impressions", Impressions, with_context=True, is_part=True
        )
        events = check_table(clicks, "events", Events, is_part=True)
        context = as_fitted(impressions.other, self.scorer.kinds)
        for table, checked in (("impressions", impressions), ("events", events)):
            self._set_aside(checked.quarantine, f"{table}-{part}")
        used = impressions.used.with_columns(context.frame.get_columns())
        return self.scorer.tables(events.used, used.select(pl.exclude(ROW), ROW))

    def _session_part(self, table: str, part: int) -> pl.LazyFrame | None:
        rows = read_parts(self.folder / SESSIONS / table / f"{PART}={part}")
        return None if rows is None else rows.lazy()

    def _set_aside(self, rows: pl.DataFrame, name: str) -> None:
        if len(rows):
            rows.sort("table", ROW).write_parquet(self.folder / ASIDE / f"{name}.parquet")
