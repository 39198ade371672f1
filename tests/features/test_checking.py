import polars as pl
import pytest

from features.checking import QUARANTINE, RowCounts, check_table
from features.errors import DataError
from features.rules import Products


def test_an_absent_table_has_no_rows() -> None:
    checked = check_table(None, "products", Products)
    assert checked.rows == RowCounts(0, 0, 0)
    assert checked.used.schema == Products.create_empty().schema
    assert checked.quarantine.schema == pl.Schema(QUARANTINE)


def test_rows_set_aside_keep_their_number_key_and_all_reasons_in_order() -> None:
    frame = pl.LazyFrame({"product_id": ["a", "a", None, "b"], "brand": ["x", None, "y", "z"]})
    checked = check_table(frame, "products", Products)
    assert checked.used["row"].to_list() == [0, 3]
    assert checked.quarantine.rows() == [
        ("products", 1, "a", "product_id repeats an earlier row"),
        ("products", 2, None, "product_id is missing"),
    ]
    assert checked.rows == RowCounts(4, 2, 2)


def test_columns_are_other_only_where_they_may_be_context() -> None:
    frame = pl.LazyFrame({"product_id": ["a", None], "size": [1, 2], "tags": [[1], [2]]})
    plain = check_table(frame, "products", Products)
    assert plain.unused == dict.fromkeys(
        ("size", "tags"), "only the impressions may have columns of their own"
    )
    rich = check_table(frame, "products", Products, with_context=True)
    assert rich.other.to_dict(as_series=False) == {"row": [0], "size": [1]}
    assert list(rich.unused) == ["tags"]


def test_a_missing_column_is_named_with_the_nearest_and_all_there_are() -> None:
    frame = pl.LazyFrame({"Product_ID": ["a"], "brand": ["x"]})
    with pytest.raises(
        DataError,
        match=r"'products' has no column 'product_id' \(its columns are Product_ID, brand\); "
        r"did you mean 'Product_ID'\?",
    ):
        check_table(frame, "products", Products)


def test_a_table_without_a_good_row_says_the_commonest_reason() -> None:
    frame = pl.LazyFrame({"product_id": [None, "", None]}, schema={"product_id": pl.String})
    with pytest.raises(
        DataError, match=r"None of the 3 rows of products .* in 2 of them: product_id is missing\."
    ):
        check_table(frame, "products", Products)
