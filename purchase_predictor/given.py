"""Rows that a model is asked about: read and checked, and a warning for what they lack."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from features.context import Kind
from features.reading import read_folder
from features.schema import Tables, check_tables
from features.storage import IN_MEMORY, ArrayStore
from purchase_predictor.absent import absent_inputs
from purchase_predictor.errors import DataError
from purchase_predictor.reference import Reference
from purchase_predictor.scored import rows_by_reason, set_aside_sentences


def read_given(
    data: Path | str | Tables,
    *,
    require_labels: bool,
    max_title_chars: int,
    context: Mapping[str, Kind] | None = None,
    reference: Reference | None = None,
    store: ArrayStore = IN_MEMORY,
    stacklevel: int,
) -> Tables:
    """The tables of a folder, or those that are given.

    Warns of rows that are set aside, and of tables and columns that the model's test rows had and
    the folder has not: a renamed column gives other probabilities and no error.

    Args:
        data: a data folder or checked tables.
        require_labels: whether every impression must say whether it converted.
        max_title_chars: a longer title is cut here.
        context: types that the context columns had in training; None while training.
        reference: what the model's test rows were like; None where nothing is known of them.
        store: where the tables of a folder are to lie.
        stacklevel: frames from here to the user's own, which warnings point at.

    Raises:
        DataError: the data cannot be used.
    """
    if isinstance(data, Tables):
        if require_labels and data.impressions["converted"].null_count():
            raise DataError("column 'converted' of impressions is needed here")
        return data
    if not isinstance(data, Path | str):
        raise DataError(
            f"expected a data folder or checked tables, not {type(data).__name__}: "
            "features.schema.tables_from_frames makes tables of data frames"
        )
    raw = read_folder(Path(data))
    if reference is not None:
        for sentence in absent_inputs(raw, reference, context or {}):
            warnings.warn(f"{data}: {sentence}", stacklevel=stacklevel)
    tables = check_tables(
        raw, require_labels=require_labels, max_title_chars=max_title_chars, context=context
    )
    for sentence in set_aside_sentences(rows_by_reason(tables.quarantine.lazy())):
        warnings.warn(f"{data}: {sentence}", stacklevel=stacklevel)
    return tables.stored(store)
