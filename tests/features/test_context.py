from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from features.context import as_fitted, recognise, usable
from features.errors import DataError

NONE = frozenset[str]()


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pl.Series([date(2024, 1, 1)]), "dates or times"),
        (pl.Series([datetime(2024, 1, 1, tzinfo=UTC)]), "dates or times"),
        (pl.Series([timedelta(1)]), "dates or times"),
        (pl.Series([[1]]), "lists or structures"),
        (pl.Series([{"a": 1}]), "lists or structures"),
        (pl.Series([None]), "every value is missing"),
        (pl.Series([b"a"]), "its type is Binary"),
    ],
)
def test_types_that_are_no_context(column: pl.Series, reason: str) -> None:
    names, unused = usable({"x": column.dtype, "y": pl.Int8()})
    assert names == ["y"]
    assert reason in unused["x"]


@pytest.mark.parametrize("name", ["*", "^a.*$"])
def test_names_that_polars_takes_for_patterns_are_refused(name: str) -> None:
    assert "pattern" in usable({name: pl.Int8()})[1][name]


def test_kinds_by_type() -> None:
    frame = pl.DataFrame(
        {
            "number": [1, None],
            "flag": [True, None],
            "category": ["1", "2"],
            "enum": pl.Series(["a", "b"], dtype=pl.Categorical),
        }
    )
    found = recognise(frame, NONE)
    assert found.kinds == {
        "number": "number", "flag": "flag", "category": "category", "enum": "category",
    }  # fmt: skip
    assert found.frame.dtypes == [pl.Float64, pl.Boolean, pl.String, pl.String]
    assert found.frame.height == 2
    assert (found.unused, found.notes) == ({}, ())


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "2.5", None], "number", [1.0, 2.5, None]),
        (["True", "false", None], "flag", [True, False, None]),
        (["1", "0", None], "number", [1.0, 0.0, None]),
        (["007", "12", None], "category", ["007", "12", None]),
        (["0.5", "-0.25", "0"], "number", [0.5, -0.25, 0.0]),
        (["1", "two", None], "category", ["1", "two", None]),
        (["", "1"], "category", ["", "1"]),
    ],
)
def test_kinds_of_csv_columns_by_content(cells: list, kind: str, values: list) -> None:
    found = recognise(pl.DataFrame({"x": cells}), frozenset({"x"}))
    assert found.kinds == {"x": kind}
    assert found.frame["x"].to_list() == values


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["2024-01-05", None], "dates written as text"),
        (["2024/1/5 10:00", "2024/1/6 11:00"], "dates written as text"),
    ],
)
def test_dates_written_as_text_are_told(cells: list[str | None], reason: str) -> None:
    found = recognise(pl.DataFrame({"x": cells}), NONE)
    assert found.kinds == {}
    assert reason in found.unused["x"]


def test_a_column_without_a_value_is_told() -> None:
    found = recognise(pl.DataFrame({"x": [None, None]}, schema={"x": pl.Int64}), NONE)
    assert found.unused == {"x": "every value is missing"}


def test_infinite_and_nan_numbers_count_as_missing_aloud() -> None:
    found = recognise(pl.DataFrame({"x": [1.0, float("nan"), float("inf"), None]}), NONE)
    assert found.frame["x"].to_list() == [1.0, None, None, None]
    assert found.notes == (
        "The context column 'x' has 2 values that are not a number: they count as missing.",
    )


def test_fitted_kinds_rule_over_the_types_of_a_later_table() -> None:
    frame = pl.DataFrame(
        {"row": [0, 1], "code": [3, 4], "size": ["1.5", "big"], "new": [1, 2], "gap": [None, None]}
    )
    found = as_fitted(
        frame, {"size": "number", "code": "category", "gone": "flag", "gap": "number"}
    )
    assert found.frame.to_dict(as_series=False) == {
        "size": [1.5, None], "code": ["3", "4"], "gone": [None, None], "gap": [None, None],
    }  # fmt: skip
    assert found.frame.dtypes == [pl.Float64, pl.String, pl.Boolean, pl.Float64]
    assert found.unused == {"new": "the model was fitted without it"}
    assert [note.split(":")[0] for note in found.notes] == [
        "The context column 'gone' is absent",
        "The context column 'size' has 1 values that are not a number",
    ]


def test_all_context_columns_absent_keeps_the_rows() -> None:
    found = as_fitted(pl.DataFrame({"row": [0, 1, 2]}), {"x": "number"})
    assert found.frame["x"].to_list() == [None, None, None]


def test_a_column_that_cannot_hold_its_fitted_kind_is_refused() -> None:
    frame = pl.DataFrame({"row": [0], "x": ["big"]})
    with pytest.raises(DataError, match=r"'x' of impressions should hold numbers.*'big'"):
        as_fitted(frame, {"x": "number"})
