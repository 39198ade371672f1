"""One row per list: all that scoring needs in one place, for REST, Spark and input examples.

A row holds `market`, `timestamp` and, where known, `session_id` and `user_id`; `candidates`, the
products shown together with the terms of their offers; `history`, the events before; and
`earlier`, the offers shown before. Products carry their title, picture, category, brand and group,
because no other table is at hand. A row is scored as if it came alone: rows share neither
sessions nor products.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import numpy as np
import polars as pl
import polars.selectors as cs

from features.context import TYPES, Kind
from features.reading import safe_path
from features.schema import Tables, tables_from_frames
from purchase_predictor.errors import DataError

TEXT, NUMBER, FLAG = pl.String(), pl.Float64(), pl.Boolean()
ABOUT: dict[str, pl.DataType] = dict.fromkeys(
    ("title", "image", "category", "brand", "match_group"), TEXT
)
"""The match group, where a catalogue has one, tells which probe of pictures saw the listing."""
TERMS: dict[str, pl.DataType] = {
    "price": NUMBER,
    "discount_rate": NUMBER,
    "free_shipping": FLAG,
}
NEEDED = frozenset(
    {"market", "timestamp", "candidates", "history.timestamp", "history.event_type"}
)
"""What every row and every event has; anything else may be absent or null."""

MLFLOW_TYPES = {TEXT: "string", NUMBER: "double", FLAG: "boolean"}

MAX_EXAMPLE_IMAGE = 100_000
"""Bytes of a picture that goes into an example."""

ISO = "%Y-%m-%dT%H:%M:%S%.6f+00:00"

Predict = Callable[[Tables], pl.DataFrame]


class Scores(TypedDict):
    """The answer to a row.

    Attributes:
        probabilities: one for each candidate; None where the candidate cannot be scored.
        flags: one text for each candidate, empty where there is nothing to say.
    """

    probabilities: list[float | None]
    flags: list[str]


def columns(context: Mapping[str, Kind]) -> dict[str, pl.DataType]:
    """The columns of a row.

    Args:
        context: kinds of the model's context columns; each candidate holds theirs in `context`.

    Returns:
        Types by name. Timestamps are ISO 8601 text with a time zone; an image is the base64 text
        of a JPEG, PNG or WebP file.
    """
    product: dict[str, pl.DataType] = {"product_id": TEXT, **ABOUT}
    offer = {**product, **TERMS}
    if context:
        offer["context"] = pl.Struct({name: TYPES[kind] for name, kind in context.items()})
    moment = {"timestamp": TEXT, "session_id": TEXT}
    return {
        **dict.fromkeys(("market", "timestamp", "session_id", "user_id"), TEXT),
        "candidates": pl.List(pl.Struct(offer)),
        "history": pl.List(pl.Struct({**moment, "event_type": TEXT, **product})),
        "earlier": pl.List(pl.Struct({**moment, **offer})),
    }


def signature(context: Mapping[str, Kind]) -> dict[str, str]:
    """Input, output and parameters of a model, as the JSON that MLflow reads signatures from.

    Args:
        context: kinds of the model's context columns.
    """
    answer = {"probabilities": pl.List(NUMBER), "flags": pl.List(TEXT)}
    inputs = [_described(dtype, name, name) for name, dtype in columns(context).items()]
    outputs = [
        {**_described(dtype, name, name), "required": True} for name, dtype in answer.items()
    ]
    system = {"name": "system", "type": "string", "default": "", "shape": None}
    parts = {"inputs": inputs, "outputs": outputs, "params": [system]}
    return {name: json.dumps(part) for name, part in parts.items()}


def _described(dtype: pl.DataType, path: str, name: str | None = None) -> dict[str, Any]:
    """A type as MLflow writes it; a column of a table has a name, a part of an object has none."""
    described: dict[str, Any] = {"type": MLFLOW_TYPES.get(dtype)}
    if isinstance(dtype, pl.List):
        described = {"type": "array", "items": _described(dtype.inner, path)}  # type: ignore[arg-type]
    elif isinstance(dtype, pl.Struct):
        properties = {
            field.name: {
                **_described(field.dtype, f"{path}.{field.name}"),  # type: ignore[arg-type]
                "required": f"{path}.{field.name}" in NEEDED,
            }
            for field in dtype.fields
        }
        return {"type": "object", "properties": properties}
    return described if name is None else {**described, "name": name, "required": path in NEEDED}


def score_rows(
    rows: Sequence[Mapping[str, Any]],
    context: Mapping[str, Kind],
    predict: Predict,
    *,
    max_title_chars: int = 2000,
) -> list[Scores]:
    """Score rows through a model that takes tables.

    Args:
        rows: as `columns` describes them; missing keys, None and NaN are missing values.
        context: kinds of the model's context columns.
        predict: gives `impression_id, probability, flags` for tables.
        max_title_chars: a longer title is cut here.

    Returns:
        The answers, in the order of the rows and of their candidates.

    Raises:
        DataError: a column cannot be used at all.
    """
    frame = _frame(rows, context)
    answers: list[Scores] = [{"probabilities": [], "flags": []} for _ in rows]
    for part in _parts(frame.filter(pl.col("candidates").list.len() > 0)):
        with TemporaryDirectory(prefix="pictures-") as folder:
            tables = _tables(part, context, Path(folder), max_title_chars)
            scored = _by_list(part, tables, predict(tables))
        for number, probabilities, flags in scored.iter_rows():
            answers[number] = {"probabilities": probabilities, "flags": flags}
    return answers


def _frame(rows: Sequence[Mapping[str, Any]], context: Mapping[str, Kind]) -> pl.DataFrame:
    values = {
        name: pl.Series(name, [_value(row.get(name)) for row in rows], dtype=dtype, strict=False)
        for name, dtype in columns(context).items()
    }
    return pl.DataFrame(values).with_row_index("list").with_columns(pl.col("list").cast(pl.Int64))


def _value(value: Any) -> Any:
    """A cell as polars reads it: pandas writes NaN for missing, arrow arrays for lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if isinstance(value, float) and np.isnan(value) else value


def _items(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """One row per item: `list, place` and its values; `place` counts within the list.

    A product that is described but has no id gets one that no catalogue has.
    """
    items = frame.filter(pl.col(column).list.len() > 0).select("list", column)
    place = pl.int_range(pl.len()).over("list")
    described = pl.any_horizontal(pl.col(name).is_not_null() for name in ABOUT)
    unnamed = pl.when(described).then(pl.format("\0{}:{}{}", "list", pl.lit(column), place))
    return (
        items.explode(column)
        .unnest(column)
        .with_columns(place=place, product_id=pl.coalesce("product_id", unnamed))
    )


def _shown(frame: pl.DataFrame) -> pl.DataFrame:
    """The offers shown before and those that are `asked` for, by `impression_id`."""
    parts = {name: _items(frame, name) for name in ("earlier", "candidates")}
    return pl.concat(
        (
            part.with_columns(
                asked=pl.lit(name == "candidates"),
                impression_id=pl.format("{} {} {}", "list", pl.lit(name), "place"),
            )
            for name, part in parts.items()
        ),
        how="diagonal",
    )


def _products(frame: pl.DataFrame) -> pl.DataFrame:
    """`list, product_id` and what the list says about it, candidates before all others."""
    told = [
        _items(frame, name).select("list", "product_id", *ABOUT).drop_nulls("product_id")
        for name in ("candidates", "history", "earlier")
    ]
    return (
        pl.concat(told)
        .group_by("list", "product_id", maintain_order=True)
        .agg(pl.col(name).drop_nulls().first() for name in ABOUT)
    )


def _parts(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Rows that agree on all their products together; every other row alone.

    The catalogue has one row for each id: rows that describe an id in two ways (a title changed
    between them) must not lend each other their descriptions.
    """
    if frame.is_empty():
        return []
    products = _products(frame)
    disputed = products.group_by("product_id").agg(n=pl.struct(list(ABOUT)).n_unique())
    alone = products.join(disputed.filter(pl.col("n") > 1), on="product_id", how="semi")["list"]
    apart = frame["list"].is_in(alone.unique().implode())
    together = frame.filter(~apart)
    lonely = frame.filter(apart).partition_by("list", maintain_order=True)
    return [*([] if together.is_empty() else [together]), *lonely]


def _tables(
    frame: pl.DataFrame, context: Mapping[str, Kind], folder: Path, max_title_chars: int
) -> Tables:
    """Tables in which every list has a session and a user of its own."""
    owner = frame.select(
        "list",
        "market",
        pl.col("timestamp").alias("shown_at"),
        pl.col("session_id").fill_null("").alias("session"),
        pl.format("{}/{}", "list", "user_id").alias("user_id"),
    )
    shown, seen = (
        part.join(owner, on="list", how="left", maintain_order="left").with_columns(
            session_id=pl.format("{}/{}", "list", pl.coalesce("session_id", "session"))
        )
        for part in (_shown(frame), _items(frame, "history"))
    )
    products = _products(frame).drop("list").unique("product_id", maintain_order=True)
    together = pl.when("asked").then(pl.lit("")).otherwise("timestamp")
    impressions = shown.select(
        "impression_id",
        "session_id",
        "user_id",
        "market",
        "product_id",
        *TERMS,
        *(pl.col("context").struct.field(name) for name in context),
        timestamp=pl.when("asked").then("shown_at").otherwise("timestamp"),
        list_id=pl.format("{} {}", "session_id", together),
    )
    events = seen.select("session_id", "user_id", "timestamp", "event_type", "product_id")
    return tables_from_frames(
        None if products.is_empty() else _with_files(products, folder),
        None if events.is_empty() else events,
        impressions.with_columns(cs.float().fill_nan(None)),
        folder=folder,
        require_labels=False,
        max_title_chars=max_title_chars,
        context=context,
    )


def _with_files(products: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Write the pictures to files, as tables have them."""
    images = products["image"].drop_nulls().unique(maintain_order=True).to_list()
    names = {image: f"{number}.picture" for number, image in enumerate(images)}
    for image, name in names.items():
        try:
            content = base64.b64decode(image, validate=True)
        except binascii.Error:
            content = image.encode("utf-8")  # is no picture: counted as every broken file is
        (folder / name).write_bytes(content)
    return products.with_columns(pl.col("image").replace_strict(names, return_dtype=pl.String))


def _by_list(frame: pl.DataFrame, tables: Tables, predicted: pl.DataFrame) -> pl.DataFrame:
    """`list, probabilities, flags`, with what was set aside and why among the flags."""
    why = tables.quarantine.select("table", "row", why="reason")
    shown, seen = (
        part.with_columns(row=pl.int_range(pl.len()), table=pl.lit(table)).join(
            why, on=["table", "row"], how="left", maintain_order="left"
        )
        for table, part in (("impressions", _shown(frame)), ("events", _items(frame, "history")))
    )
    before = pl.concat([seen.select("list", "why"), shown.filter(~pl.col("asked"))["list", "why"]])
    lost = (
        before.drop_nulls("why")
        .group_by("list")
        .agg(lost=pl.format("{} earlier rows set aside: {}", pl.len(), pl.col("why").first()))
    )
    said = pl.concat_str(
        pl.col("flags").list.join("; ").replace("", None),
        "why",
        "lost",
        separator="; ",
        ignore_nulls=True,
    )
    return (
        shown.filter("asked")
        .join(lost, on="list", how="left", maintain_order="left")
        .join(predicted, on="impression_id", how="left", maintain_order="left")
        .group_by("list", maintain_order=True)
        .agg(pl.col("probability"), said.alias("flags"))
    )


def example_rows(tables: Tables, n_lists: int = 2, max_before: int = 20) -> list[dict[str, Any]]:
    """Rows made of tables: what a user of the model would send for these lists.

    Args:
        tables: checked tables.
        n_lists: how many rows; lists with a history come first.
        max_before: of a history and of the offers shown before it, the last ones.

    Returns:
        Rows as `columns` describes them, without what is missing. A product that the catalogue
        does not know is missing, as it is to the model.
    """
    unit = pl.coalesce(pl.format("u{}", "user_id"), pl.format("s{}", "session_id")).alias("unit")
    about = tables.products.select("product_id", *ABOUT)
    context = [pl.struct(list(tables.context)).alias("context")] if tables.context else []
    shown, events = (
        part.sort("timestamp", maintain_order=True).with_columns(
            unit,
            *more,
            at=pl.col("timestamp").dt.strftime(ISO),
            product_id=pl.when(pl.col("product_id").is_in(about["product_id"].implode())).then(
                "product_id"
            ),
        )
        for part, more in ((tables.impressions, context), (tables.events, []))
    )
    name = pl.coalesce("list_id", pl.format("{} {}", "session_id", "timestamp"))
    shown = shown.with_columns(name.alias("list"))
    began = events.group_by("unit").agg(began=pl.col("timestamp").min())
    lists = (
        shown.group_by("list", maintain_order=True)
        .agg(pl.col("unit", "timestamp", "at", "session_id", "user_id", "market").first())
        .join(began, on="unit", how="left", maintain_order="left")
        .sort(pl.col("began") >= pl.col("timestamp"), nulls_last=True, maintain_order=True)
        .head(n_lists)
    )
    offer = ["product_id", *TERMS, *(["context"] if context else [])]
    moment = [pl.col("at").alias("timestamp"), pl.col("session_id")]
    rows = []
    for row in lists.iter_rows(named=True):
        past = (pl.col("unit") == row["unit"]) & (pl.col("timestamp") < row["timestamp"])
        parts = {
            "candidates": shown.filter(pl.col("list") == row["list"]).select(offer),
            "history": events.filter(past)
            .tail(max_before)
            .select(*moment, "event_type", "product_id"),
            "earlier": shown.filter(past).tail(max_before).select(*moment, *offer),
        }
        rows.append(
            {
                "market": row["market"],
                "timestamp": row["at"],
                **{key: row[key] for key in ("session_id", "user_id") if row[key] is not None},
                **{key: _told(part, about, tables.folder) for key, part in parts.items()},
            }
        )
    return rows


def _told(part: pl.DataFrame, about: pl.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Items without what is missing, and with the picture itself instead of its path."""
    items = part.join(about, on="product_id", how="left", maintain_order="left").to_dicts()
    for item in items:
        if item["image"] is not None:
            item["image"] = _picture(folder, item["image"])
        if "context" in item:
            item["context"] = {k: v for k, v in item["context"].items() if v is not None}
    return [{k: v for k, v in item.items() if v is not None} for item in items]


def _picture(folder: Path, relative: str) -> str | None:
    try:
        path = safe_path(folder, relative)
        small = path.is_file() and path.stat().st_size <= MAX_EXAMPLE_IMAGE
        return base64.b64encode(path.read_bytes()).decode("ascii") if small else None
    except (DataError, OSError):
        return None  # an example does without what cannot be read
