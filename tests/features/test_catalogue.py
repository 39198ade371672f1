from pathlib import Path

import polars as pl
import pytest

from features.catalogue import clean_products, load_catalogue
from features.checking import check_table
from features.errors import DataError
from features.rules import Products
from features.schema import load_tables

HASH = "94974f937d4c2433"


def _folder(folder: Path, **columns: list[object]) -> Path:
    pl.DataFrame(columns, strict=False).write_parquet(folder / "products.parquet")
    return folder


def test_products_are_loaded_without_impressions(tmp_path: Path) -> None:
    _folder(tmp_path, product_id=["a", "b"], price=[1, None], image_hash=[HASH, None])

    catalogue = load_catalogue(tmp_path)

    assert catalogue.folder == tmp_path
    assert catalogue.products["price"].to_list() == [1.0, None]
    assert catalogue.products["image_hash"].to_list() == [HASH, None]
    assert catalogue.products["title"].null_count() == 2
    assert (catalogue.rows.read, catalogue.rows.used, catalogue.rows.set_aside) == (2, 2, 0)
    assert catalogue.notes == ()


def test_the_same_products_as_with_all_tables(tiny_folder: Path) -> None:
    catalogue, tables = load_catalogue(tiny_folder), load_tables(tiny_folder)

    assert catalogue.products.equals(tables.products)
    assert catalogue.rows == tables.rows["products"]


def test_other_tables_may_be_broken(tmp_path: Path) -> None:
    _folder(tmp_path, product_id=["a"])
    (tmp_path / "impressions.parquet").write_bytes(b"PAR1 no more")

    assert load_catalogue(tmp_path).products["product_id"].to_list() == ["a"]


def test_bad_rows_are_set_aside_with_their_reasons(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("product_id,price\na,1\na,2\n,3\nb,-1\na,cheap\nd,\n")

    catalogue = load_catalogue(tmp_path)

    assert catalogue.products["product_id"].to_list() == ["a", "b", "d"]
    assert catalogue.quarantine.rows() == [
        ("products", 1, "a", "product_id repeats an earlier row"),
        ("products", 2, None, "product_id is missing"),
        ("products", 4, "a", "product_id repeats an earlier row"),
    ]
    assert (catalogue.rows.read, catalogue.rows.used, catalogue.rows.set_aside) == (6, 3, 3)
    # of the two bad prices one is of a row set aside
    assert catalogue.counters["prices_unreadable"] == 1


@pytest.mark.parametrize(
    ("given", "read", "unreadable"),
    [
        (["12.99", "0", None], [12.99, 0.0, None], 0),
        (["$12.99", "$3.00", "$4"], [None, None, None], 3),
        (["12.99", "free", "4"], [12.99, None, 4.0], 1),
        (["1", "", "nan"], [1.0, None, None], 2),
        (["inf", "-0.01", "2"], [None, None, 2.0], 2),
        ([-1, 3, None], [None, 3.0, None], 1),
        ([-1.5, float("nan"), float("inf")], [None, None, None], 3),
    ],
)
def test_a_price_is_a_number_from_0_up_or_missing_and_its_product_stays(
    tmp_path: Path, given: list[object], read: list[float | None], unreadable: int
) -> None:
    _folder(tmp_path, product_id=["a", "b", "c"], title=["x", "y", "z"], price=given)

    catalogue = load_catalogue(tmp_path)

    assert catalogue.products["price"].to_list() == read
    assert catalogue.products["title"].to_list() == ["x", "y", "z"]
    assert (catalogue.counters["prices_unreadable"], catalogue.rows.set_aside) == (unreadable, 0)


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        ("price", [b"1", b"2"], "it should hold numbers, but its type is Binary"),
        ("price", [True, False], "it should hold numbers, but its type is Boolean"),
        ("price", [[1.0], [2.0]], "it should hold numbers, but its type is List(Float64)"),
        ("image_hash", [HASH.encode()] * 2,
         "it should hold text or whole numbers, but its type is Binary"),
    ],
)  # fmt: skip
def test_a_price_or_hash_of_a_wrong_type_is_absent_and_told(
    tmp_path: Path, column: str, values: list[object], why: str
) -> None:
    _folder(tmp_path, product_id=["a", "b"], title=["x", "y"], **{column: values})

    catalogue = load_catalogue(tmp_path)

    assert catalogue.products["title"].to_list() == ["x", "y"]
    assert catalogue.products[column].null_count() == 2
    assert catalogue.products.schema[column] == Products.create_empty().schema[column]
    assert catalogue.unused == {f"products.{column}": why}
    assert catalogue.notes == (f"The column products.{column} is not used: {why}.",)


def test_a_hash_of_numbers_is_missing_where_it_is_not_sixteen_digits(tmp_path: Path) -> None:
    _folder(
        tmp_path,
        product_id=["a", "b", "c", "d", "e"],
        image_hash=[0.5, 7.0, float("nan"), None, 1234567890123456.0],
    )

    catalogue = load_catalogue(tmp_path)

    assert catalogue.products["image_hash"].to_list() == [None] * 4 + ["1234567890123456"]
    assert (catalogue.counters["hashes_unreadable"], catalogue.rows.set_aside) == (3, 0)


def test_a_blank_match_group_is_missing_and_counted(tmp_path: Path) -> None:
    groups = ["", " \t", "\u00a0", None, " g", "0"]
    _folder(tmp_path, product_id=list("abcdef"), title=[""] * 6, match_group=groups)

    catalogue = load_catalogue(tmp_path)

    assert catalogue.products["match_group"].to_list() == [None, None, None, None, " g", "0"]
    assert catalogue.counters["groups_blank"] == 3
    assert catalogue.notes == ("Match groups that are blank, taken as missing: 3.",)
    # elsewhere an empty text is a value
    assert catalogue.products["title"].to_list() == [""] * 6


@pytest.mark.parametrize(
    ("given", "read", "unreadable"),
    [
        (HASH, HASH, 0),
        (f" {HASH.upper()}\n", HASH, 0),
        (None, None, 0),
        ("", None, 1),
        (HASH[:-1], None, 1),
        (HASH + "0", None, 1),
        ("0x" + HASH[2:], None, 1),
        (f"{HASH}\n{HASH}", None, 1),
    ],
)
def test_a_hash_is_sixteen_digits_or_missing_and_its_listing_stays(
    tmp_path: Path, given: str | None, read: str | None, unreadable: int
) -> None:
    _folder(tmp_path, product_id=["a", "b"], image_hash=[given, HASH])

    catalogue = load_catalogue(tmp_path)

    assert catalogue.products["image_hash"].to_list() == [read, HASH]
    assert catalogue.counters["hashes_unreadable"] == unreadable


def test_what_was_changed_or_not_used_is_told(tmp_path: Path) -> None:
    _folder(
        tmp_path, product_id=["a", "b"], title=["x\ny", "long title"], image_hash=["?", None],
        price=[-1, 2], match_group=["g", ""], weight=[1, 2],
    )  # fmt: skip

    catalogue = load_catalogue(tmp_path, max_title_chars=4)

    assert catalogue.products["title"].to_list() == ["x y", "long"]
    assert catalogue.counters == {
        "titles_cleaned": 1, "titles_cut": 1, "hashes_unreadable": 1, "prices_unreadable": 1,
        "groups_blank": 1,
    }  # fmt: skip
    assert catalogue.unused == {
        "products.weight": "only the impressions may have columns of their own"
    }
    assert catalogue.notes == (
        "Titles cut because they are too long: 1.",
        "Titles in which control characters became spaces: 1.",
        "Picture hashes that are not 16 hexadecimal digits, taken as missing: 1.",
        "Prices of products that are no numbers from 0 up, taken as missing: 1.",
        "Match groups that are blank, taken as missing: 1.",
        "The column products.weight is not used: only the impressions may have columns of their "
        "own.",
    )


def test_hashes_are_read_where_there_are_impressions_too(tiny_folder: Path) -> None:
    tables = load_tables(tiny_folder)
    broken = tables.products.with_columns(image_hash=pl.lit("?"))

    _, counters = clean_products(check_table(broken.lazy(), "products", Products), 100)

    assert tables.counters["hashes_unreadable"] == 0
    assert counters["hashes_unreadable"] == tables.products.height


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no table 'products'"),
        ({"product.csv": "product_id\n1\n"}, "did you mean 'product.csv'"),
        ({"products.csv": "product_id\n"}, "'products' has no rows"),
        ({"products.csv": "id,title\na,b\n"}, "no column 'product_id'"),
        ({"products.csv": "product_id\na\n", "products.parquet": ""}, "twice"),
    ],
)
def test_products_that_cannot_be_used(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(DataError, match=message):
        load_catalogue(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_catalogue(tmp_path / "absent")
