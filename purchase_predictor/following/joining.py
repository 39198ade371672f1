"""Scores and what happened, joined by impression."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from features.clickstream import session_units
from features.reading import RawTables, read_folder
from features.schema import Tables, check_tables
from purchase_predictor.errors import DataError, nearest
from purchase_predictor.scored import TRAINING_PERIOD

REQUIRED = ("impression_id", "probability", "system", "model_version")
"""Columns without which scores cannot be followed; `market` and `flags` are read where given."""

UNKNOWN = "unknown"
"""Stands for a system or a version that a row of scores does not name."""

NO_PROBABILITY = "probability is no number in [0, 1]"
NO_IMPRESSION = "impression_id is missing"

_PROPENSITY_RULE = "propensity"
"""How the reason of a row starts that the contract sets aside for its propensity."""


@dataclass(frozen=True)
class Model:
    """Who gave a probability.

    Attributes:
        label: name of the model in tables and charts; unique.
        system: fusion, lightgbm, …
        version: of the model.
    """

    label: str
    system: str
    version: str


@dataclass(frozen=True)
class Scores:
    """Usable scores of all files.

    Attributes:
        frame: `model` (label), `impression_id`, `probability`, `market`, `flags`; a model has an
            impression once.
        models: in the order in which the files name them.
        n_read: rows of the files.
        n_repeated: rows that say again what an earlier one said.
        n_training_period: rows left out, which are of the time their model learned from.
        only_learned: names of the models that scored nothing later; their rows stay.
        set_aside: rows that cannot be used, by reason.
    """

    frame: pl.DataFrame
    models: tuple[Model, ...]
    n_read: int
    n_repeated: int
    n_training_period: int
    only_learned: tuple[str, ...]
    set_aside: dict[str, int]


@dataclass(frozen=True)
class Outcomes:
    """Impressions of the data folder.

    Attributes:
        frame: `impression_id, timestamp, market, converted` (null where it is not known),
            `propensity, unit, list_number` (rows shown together) and `n_candidates` (rows of the
            list that have a propensity).
        n_read: rows of the table.
        set_aside: rows that break the data contract, by reason.
        bad_propensity: how many of those were set aside for their propensity: 0 is one.
    """

    frame: pl.DataFrame
    n_read: int
    set_aside: dict[str, int]
    bad_propensity: int


@dataclass(frozen=True)
class Joined:
    """Impressions that some model scored.

    Attributes:
        frame: columns of `Outcomes.frame` and a column of each model's probabilities, null where
            it did not score; also rows whose outcome is not known.
        flags: `model, impression_id, flag`, a row for each flag.
        models: those that scored an impression with an outcome.
        counts: what was joined and what was not, to be told.
    """

    frame: pl.DataFrame
    flags: pl.DataFrame
    models: tuple[Model, ...]
    counts: dict[str, Any]

    def happened(self, *labels: str) -> pl.DataFrame:
        """The rows with an outcome that each of some models scored."""
        return self.frame.drop_nulls(["converted", *labels])


def read_scores(files: Sequence[Path]) -> Scores:
    """Read what batch scoring wrote.

    Args:
        files: Parquet files.

    Returns:
        The usable rows, and what became of the others.

    Raises:
        DataError: a file or a column is missing, a file cannot be read, no row can be used, or a
            model gave an impression two different probabilities.
    """
    rows = pl.concat([_read_file(file) for file in files])
    reason = (
        pl.when(pl.col("impression_id").is_null())
        .then(pl.lit(NO_IMPRESSION))
        .when(~pl.col("probability").is_between(0, 1).fill_null(False))  # NaN is not between
        .then(pl.lit(NO_PROBABILITY))
    )
    marked = rows.with_columns(reason=reason)
    bad = marked.drop_nulls("reason")
    good = marked.filter(pl.col("reason").is_null()).drop("reason")
    if good.is_empty():
        told = f"none of the {len(rows)} rows can be used" if len(rows) else "there are no rows"
        raise DataError(f"{', '.join(map(str, files))}: {told}")
    models = _models(good)
    labels = pl.DataFrame(
        {
            "system": [model.system for model in models],
            "model_version": [model.version for model in models],
            "model": [model.label for model in models],
        }
    )
    good = good.join(labels, on=["system", "model_version"], maintain_order="left")
    once = good.unique(["model", "impression_id"], keep="first", maintain_order=True)
    if len(once) < len(good):
        _refuse_contradictions(good)
    learned = pl.col("flags").list.contains(TRAINING_PERIOD).fill_null(False)
    later = _without_training_period(once, learned)
    return Scores(
        frame=later.select("model", "impression_id", "probability", "market", "flags"),
        models=models,
        n_read=len(rows),
        n_repeated=len(good) - len(once),
        n_training_period=len(once) - len(later),
        only_learned=tuple(later.filter(learned)["model"].unique(maintain_order=True)),
        set_aside={str(why): int(n) for why, n in bad["reason"].value_counts().iter_rows()},
    )


def read_outcomes(folder: Path, *, max_title_chars: int) -> Outcomes:
    """Read a data folder for what happened; an impression may lack its outcome.

    Args:
        folder: the data folder as every command reads it.
        max_title_chars: as `check_tables`.

    Raises:
        DataError: the folder cannot be read, has no column `converted`, or no outcome is known.
    """
    raw = read_folder(folder)
    # without the column at all, the contract's own sentence names what may have been meant
    tables = check_tables(
        raw, require_labels=not _has_outcomes(raw), max_title_chars=max_title_chars
    )
    if tables.impressions["converted"].null_count() == len(tables.impressions):
        raise DataError(f"no impression of {folder} has an outcome: 'converted' is empty in all")
    aside = tables.quarantine.filter(pl.col("table") == "impressions")
    reasons = aside["reason"].value_counts().sort("count", "reason", descending=[True, False])
    return Outcomes(
        frame=_outcome_frame(tables),
        n_read=tables.rows["impressions"].read,
        set_aside={str(why): int(n) for why, n in reasons.iter_rows()},
        bad_propensity=int(aside["reason"].str.contains(_PROPENSITY_RULE, literal=True).sum()),
    )


def join(scores: Scores, outcomes: Outcomes) -> Joined:
    """Put every model's probabilities beside the outcomes.

    Args:
        scores: of all models.
        outcomes: of all impressions.

    Raises:
        DataError: no impression that was scored is in the outcomes, or none of them has one.
    """
    scored = scores.frame
    frame = outcomes.frame.join(
        scored.select("impression_id").unique(), on="impression_id", how="semi"
    )
    n_scored = scored["impression_id"].n_unique()
    if frame.is_empty():
        raise DataError(
            f"none of the {n_scored} impressions scored is among the {len(outcomes.frame)} of the "
            f"outcomes: scores know '{scored['impression_id'][0]}', outcomes "
            f"'{outcomes.frame['impression_id'][0]}'"
        )
    for model in scores.models:
        own = scored.filter(pl.col("model") == model.label)
        column = own.select("impression_id", pl.col("probability").alias(model.label))
        frame = frame.join(column, on="impression_id", how="left", maintain_order="left")
    known = frame.drop_nulls("converted")
    if known.is_empty():
        raise DataError(f"none of the {len(frame)} impressions joined has an outcome yet")
    models = tuple(model for model in scores.models if known[model.label].count())
    flags = (
        scored.explode("flags", empty_as_null=True)
        .drop_nulls("flags")
        .select("model", "impression_id", flag="flags")
    )
    return Joined(
        frame=frame, flags=flags, models=models, counts=_counts(scores, outcomes, frame, known)
    )


def _counts(
    scores: Scores, outcomes: Outcomes, frame: pl.DataFrame, known: pl.DataFrame
) -> dict[str, Any]:
    """What was joined and what was not."""
    scored = scores.frame
    markets = scored.join(
        frame.select("impression_id", shown_in="market"), on="impression_id"
    ).filter(pl.col("market") != pl.col("shown_in"))
    with_outcome = outcomes.frame.drop_nulls("converted")
    return {
        "scores": {
            "read": scores.n_read,
            "used": len(scored),
            "repeated": scores.n_repeated,
            "training_period": scores.n_training_period,
            "set_aside": scores.set_aside,
            "impressions": int(scored["impression_id"].n_unique()),
        },
        "outcomes": {
            "read": outcomes.n_read,
            "with_outcome": len(with_outcome),
            "set_aside": outcomes.set_aside,
        },
        "joined": len(known),
        "scores_not_in_outcomes": int(scored["impression_id"].n_unique()) - len(frame),
        "scores_outcome_not_known": len(frame) - len(known),
        "outcomes_without_score": len(with_outcome) - len(known),
        "scored_for_another_market": int(markets["impression_id"].n_unique()),
        "units": int(known["unit"].n_unique()),
        "conversions": int(known["converted"].sum()),
        "first": str(known["timestamp"].min()),
        "last": str(known["timestamp"].max()),
    }


def _read_file(file: Path) -> pl.DataFrame:
    """One file of scores, its columns in the types that are wanted."""
    if not file.is_file():
        raise DataError(f"there is no file of scores {file}")
    try:
        given = pl.read_parquet_schema(file)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{file} is not a Parquet file of scores") from error
    missing = [name for name in REQUIRED if name not in given]
    if missing:
        hint = nearest(missing[0], [name for name in given if name not in REQUIRED])
        raise DataError(
            f"the scores {file} have no column '{missing[0]}' (they have {', '.join(given)}){hint}"
        )
    if not given["probability"].is_numeric():
        raise DataError(f"the column 'probability' of {file} holds {given['probability']}, not "
                        "numbers")  # fmt: skip
    market = pl.col("market") if "market" in given else pl.lit(None)
    flags = pl.col("flags") if isinstance(given.get("flags"), pl.List) else pl.lit([])
    read = pl.scan_parquet(file, hive_partitioning=False).select(
        pl.col("impression_id").cast(pl.String),
        market.cast(pl.String).alias("market"),
        pl.col("probability").cast(pl.Float64),
        pl.col("system", "model_version").cast(pl.String).fill_null(UNKNOWN),
        flags.cast(pl.List(pl.String)).alias("flags"),
    )
    try:
        return read.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"the scores {file} cannot be read, they may be damaged") from error


def _models(rows: pl.DataFrame) -> tuple[Model, ...]:
    """Systems and versions in the order of the files, each under a label of its own."""
    found: dict[str, Model] = {}
    named = rows.select("system", "model_version").unique(maintain_order=True)
    for system, version in named.iter_rows():
        label, number = f"{system} {version}", 2
        while label in found:
            label, number = f"{system} {version} ({number})", number + 1
        found[label] = Model(label, system, version)
    return tuple(found.values())


def _without_training_period(scored: pl.DataFrame, learned: pl.Expr) -> pl.DataFrame:
    """Leave out what a model may have learned, unless that is all it scored.

    A folder to score holds histories, which are scored again: on rows of training a model is
    better than on any later ones, and the one that learns most by heart looks best.
    """
    return scored.filter(~learned | learned.all().over("model"))


def _refuse_contradictions(rows: pl.DataFrame) -> None:
    """A row that was written twice is one; two probabilities cannot both be followed."""
    twice = (
        rows.group_by("model", "impression_id", maintain_order=True)
        .agg(pl.col("probability").n_unique())
        .filter(pl.col("probability") > 1)
    )
    if len(twice):
        raise DataError(
            f"{twice['model'][0]} gave {len(twice)} impressions two different probabilities, "
            f"first '{twice['impression_id'][0]}': keep one of them, or give each its own "
            "model_version"
        )


def _has_outcomes(raw: RawTables) -> bool:
    return "converted" in raw.impressions.collect_schema()


def _outcome_frame(tables: Tables) -> pl.DataFrame:
    """Impressions with their unit and list, as the clickstream defines both."""
    apart = pl.when(pl.col("list_id").is_null()).then("timestamp")
    together = pl.struct("session_id", "list_id", apart.alias("apart"))
    return (
        tables.impressions.join(
            session_units(tables), on="session_id", how="left", maintain_order="left"
        )
        .with_columns(list_number=together.rank("dense").cast(pl.Int64))
        .select(
            "impression_id",
            "timestamp",
            "market",
            "converted",
            "propensity",
            "unit",
            "list_number",
            # counted here, since what nobody scored does not stay
            n_candidates=pl.col("propensity").count().over("list_number"),
        )  # fmt: skip
    )
