from pathlib import Path

import polars as pl
import pytest

from features.catalogue import clean_products, load_catalogue
from features.errors import DataError
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
    (tmp_path / "products.csv").write_text("product_id,price\na,1\na,2\n,3\nb,-1\nc,cheap\nd,\n")

    catalogue = load_catalogue(tmp_path)

    assert catalogue.products["product_id"].to_list() == ["a", "d"]
    assert catalogue.quarantine.rows() == [
        ("products", 1, "a", "product_id repeats an earlier row"),
        ("products", 2, None, "product_id is missing"),
        ("products", 3, "b", "price is negative"),
        ("products", 4, "c", "price is not a number"),
    ]
    assert (catalogue.rows.read, catalogue.rows.used, catalogue.rows.set_aside) == (6, 2, 4)


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
        weight=[1, 2],
    )  # fmt: skip

    catalogue = load_catalogue(tmp_path, max_title_chars=4)

    assert catalogue.products["title"].to_list() == ["x y", "long"]
    assert catalogue.counters == {"titles_cleaned": 1, "titles_cut": 1, "hashes_unreadable": 1}
    assert catalogue.unused == {
        "products.weight": "only the impressions may have columns of their own"
    }
    assert catalogue.notes == (
        "Titles cut because they are too long: 1.",
        "Titles in which control characters became spaces: 1.",
        "Picture hashes that are not 16 hexadecimal digits, taken as missing: 1.",
        "The column products.weight is not used: only the impressions may have columns of their "
        "own.",
    )


def test_hashes_are_read_where_there_are_impressions_too(tiny_folder: Path) -> None:
    tables = load_tables(tiny_folder)
    broken = tables.products.with_columns(image_hash=pl.lit("?"))

    _, counters = clean_products(broken, 100)

    assert tables.counters["hashes_unreadable"] == 0
    assert counters["hashes_unreadable"] == tables.products.height


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no table 'products'"),
        ({"product.csv": "product_id\n1\n"}, "did you mean 'product.csv'"),
        ({"products.csv": "product_id\n"}, "'products' has no rows"),
        ({"products.csv": "id,title\na,b\n"}, "no column 'product_id'"),
        ({"products.csv": "product_id,price\na,free\n"}, "should hold numbers.*'free'"),
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
