"""Tables and columns that a model learned from and that the input does not have."""

from collections.abc import Collection, Sequence

from features.errors import nearest
from features.reading import RawTables, stored_schema
from features.rules import Impressions, Products
from purchase_predictor.reference import Reference

CONTENT = {"title": "missing_title", "image": "missing_image"}
"""Columns of products, and the flag of rows that lack what they hold."""


def absent_inputs(raw: RawTables, reference: Reference, context: Collection[str]) -> list[str]:
    """A sentence for each table or column that is not there, though the model's test rows had it.

    All of these may be absent, and rows are scored without them; but where the model knew them, a
    renamed column or a forgotten table gives other probabilities and no error.

    Args:
        raw: the input.
        reference: what the model's test rows were like.
        context: names of the context columns that the model knows.
    """
    told = []
    if raw.products is None:
        if _some_without(reference, "unknown_product"):
            told.append(
                f"there is no table 'products'{_spelled_alike(raw, 'products')}: every title, "
                "picture and product is unknown"
            )
    else:
        columns = stored_schema(raw.products, "products", raw.files["products"]).names()
        wanted = [name for name, flag in CONTENT.items() if _some_without(reference, flag)]
        told += _lacking("products", columns, wanted, Products.columns())
    if raw.events is None and _some_without(reference, "empty_history"):
        told.append(
            f"there is no table 'events'{_spelled_alike(raw, 'events')}: every shopper counts as "
            "one without a history"
        )
    columns = stored_schema(raw.impressions, "impressions", raw.files["impressions"]).names()
    contract = Impressions.columns()
    wanted = [name for name in [*contract, *context] if _was_there(reference, name)]
    told += _lacking("impressions", columns, wanted, contract)
    return [f"{sentence} (the model was tested with it)" for sentence in told]


def _spelled_alike(raw: RawTables, table: str) -> str:
    """The name of a file that may be the table's, in brackets; "" where there is none."""
    read = {file.name for files in raw.files.values() for file in files}
    places = raw.folder.iterdir() if raw.folder.is_dir() else ()
    names = {place.stem: place.name for place in places if place.name not in read}
    hint = nearest(table, names, shown=names).removeprefix("; ")
    return f" ({hint})" if hint else ""


def _lacking(
    table: str, columns: Sequence[str], wanted: Sequence[str], contract: Collection[str]
) -> list[str]:
    """A sentence for each wanted column that a table lacks.

    A column of another meaning in the contract is nobody's misspelling: it is not suggested.
    """
    spare = [name for name in columns if name not in contract]
    return [
        f"the table '{table}' has no column '{name}'{nearest(name, spare)}"
        for name in wanted
        if name not in columns
    ]


def _some_without(reference: Reference, flag: str) -> bool:
    """Whether some of the test rows did not raise a flag."""
    return reference.counts.flags.get(flag, 0) < reference.counts.n


def _was_there(reference: Reference, name: str) -> bool:
    """Whether an input had a value in some of the test rows."""
    counted = {"price": "log_price"}.get(name, name)
    histogram = reference.counts.inputs.get(counted)
    # the last two places are rows where it is missing, and where it is a value never seen
    return histogram is not None and sum(histogram[:-2]) > 0
