from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import DataError
from features.schema import Tables, load_tables, tables_from_frames

HERE = Path()
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def _shown(**columns: Any) -> pl.DataFrame:
    """Four good impressions, with some columns replaced (None: left out)."""
    good = {
        "impression_id": ["a", "b", "c", "d"],
        "session_id": ["s", "s", "t", "t"],
        "timestamp": [NOON, NOON, NOON + timedelta(hours=1), NOON],
        "market": ["KR", "KR", "US", "US"],
        "converted": [True, False, False, True],
    }
    given = {**good, **columns}
    return pl.DataFrame({name: cells for name, cells in given.items() if cells is not None})


def _check(impressions: pl.DataFrame, **options: Any) -> Tables:
    products, events = options.pop("products", None), options.pop("events", None)
    return tables_from_frames(products, events, impressions, folder=HERE, **options)


def _balances(tables: Tables) -> None:
    """In = used + set aside, for each table and each row number."""
    for table, counts in tables.rows.items():
        aside = tables.quarantine.filter(pl.col("table") == table)["row"]
        used = getattr(tables, table)["row"]
        assert counts.read == counts.used + counts.set_aside
        assert (counts.used, counts.set_aside) == (len(used), len(aside))
        assert sorted([*used, *aside]) == list(range(counts.read))
        assert used.is_sorted()


def test_good_folder_is_used_whole(tiny_folder: Path, tiny_tables: Tables) -> None:
    assert {table: counts.set_aside for table, counts in tiny_tables.rows.items()} == {
        "products": 0, "events": 0, "impressions": 0,
    }  # fmt: skip
    assert tiny_tables.context == {
        "position": "number",
        "device": "category",
        "is_weekend": "flag",
    }
    assert tiny_tables.folder == tiny_folder
    assert tiny_tables.impressions["row"].to_list() == list(range(700))
    assert tiny_tables.impressions.columns[-4:] == ["position", "device", "is_weekend", "row"]
    assert tiny_tables.quarantine.columns == ["table", "row", "key", "reason"]


def test_the_same_tables_from_csv(tiny_folder: Path, tiny_tables: Tables, tmp_path: Path) -> None:
    for table in ("products", "events", "impressions"):
        frame = pl.read_parquet(tiny_folder / f"{table}.parquet")
        frame.write_csv(tmp_path / f"{table}.csv")
    read = load_tables(tmp_path)
    assert read.context == tiny_tables.context
    for table in ("products", "events", "impressions"):
        assert getattr(read, table).equals(getattr(tiny_tables, table))


def test_the_same_tables_from_a_partitioned_folder(
    tiny_folder: Path, tiny_tables: Tables, tmp_path: Path
) -> None:
    frame = pl.read_parquet(tiny_folder / "impressions.parquet")
    for (market,), part in frame.group_by("market"):
        place = tmp_path / "impressions" / f"market={market}"
        place.mkdir(parents=True)
        part.drop("market").write_parquet(place / "0.parquet")
    read = load_tables(tmp_path)
    drop = pl.exclude("row")
    assert (
        read.impressions.select(drop)
        .sort("impression_id")
        .equals(tiny_tables.impressions.select(drop).sort("impression_id"))
    )
    assert read.rows["products"].read == read.rows["events"].read == 0


def test_absent_tables_and_columns_are_there_and_empty() -> None:
    tables = _check(_shown())
    assert tables.products.columns == [
        "row", "product_id", "title", "image", "category", "brand", "match_group", "image_hash",
        "price",
    ]  # fmt: skip
    assert tables.events.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert tables.impressions["price"].to_list() == [None] * 4
    assert tables.impressions.schema["free_shipping"] == pl.Boolean
    assert tables.notes == ()


def test_an_events_table_without_rows_is_fine(tmp_path: Path) -> None:
    _shown().write_parquet(tmp_path / "impressions.parquet")
    (tmp_path / "events.csv").write_text("session_id,timestamp,event_type\n")
    tables = load_tables(tmp_path)
    assert tables.events.height == tables.rows["events"].read == 0


def test_numbers_serve_as_ids_and_whole_prices_as_prices() -> None:
    tables = _check(
        _shown(impression_id=[1, 2, 3, 4], product_id=[1.0, None, 2.0, 2.0], price=[1, 2, 3, None],
               converted=[1, 0, 0, 1])
    )  # fmt: skip
    assert tables.impressions["impression_id"].to_list() == ["1", "2", "3", "4"]
    assert tables.impressions["product_id"].to_list() == ["1", None, "2", "2"]
    assert tables.impressions["price"].to_list() == [1.0, 2.0, 3.0, None]
    assert tables.impressions["converted"].to_list() == [True, False, False, True]


def test_bad_rows_are_set_aside_with_their_reasons() -> None:
    impressions = _shown(
        impression_id=["a", "a", None, "d"],
        price=[1.0, -1.0, 2.0, 3.0],
        market=["KR", "KR", None, "US"],
    )
    events = pl.DataFrame(
        {
            "session_id": ["s", None],
            "timestamp": [NOON, None],
            "event_type": ["view", "view"],
        }
    )
    tables = _check(impressions, events=events)
    assert tables.quarantine.rows() == [
        ("events", 1, None, "session_id is missing; timestamp is missing"),
        ("impressions", 1, "a", "impression_id repeats an earlier row; price is negative"),
        ("impressions", 2, None, "impression_id is missing; market is missing"),
    ]
    assert tables.impressions["row"].to_list() == [0, 3]
    _balances(tables)


def test_both_bounds_of_a_column_are_told_in_the_same_words() -> None:
    tables = _check(_shown(propensity=[0.0, 2.0, float("nan"), 1.0]))
    assert tables.quarantine["reason"].to_list() == ["propensity is no number in (0, 1]"] * 3


def test_cells_that_cannot_be_read_set_their_rows_aside(tmp_path: Path) -> None:
    (tmp_path / "impressions.csv").write_text(
        "impression_id,session_id,timestamp,market,price,converted,position\n"
        "a,s,2024-05-01T12:00:00Z,NA,1.5,true,1\n"
        "b,s,2024-05-01T12:00:00,KR,1.5,true,2\n"
        'c,s,2024-05-01T12:00:00+09:00,KR,"1,5",maybe,x\n'
        "\n"
        "d,s,2024-05-01T12:00:00+09:00,KR,,0,4\n"
        "e,s\n"
    )
    tables = load_tables(tmp_path)
    assert tables.impressions["impression_id"].to_list() == ["a", "d"]
    assert tables.impressions["market"].to_list() == ["NA", "KR"]
    assert tables.impressions["timestamp"].to_list() == [NOON, NOON - timedelta(hours=9)]
    assert tables.context == {"position": "number"}
    reasons = dict(tables.quarantine.select("row", "reason").iter_rows())
    assert reasons[1] == "timestamp has no time zone"
    assert reasons[2] == "price is not a number; converted is neither true nor false"
    assert reasons[3].startswith("impression_id is missing; session_id is missing")
    assert reasons[4 + 1] == "timestamp is missing; market is missing; converted is missing"
    _balances(tables)


def test_labels_are_needed_only_to_learn() -> None:
    half = _shown(converted=[True, None, None, False])
    tables = _check(half)
    assert tables.quarantine["reason"].unique().to_list() == ["converted is missing"]
    assert _check(half, require_labels=False).impressions.height == 4
    assert _check(_shown(converted=None), require_labels=False).impressions.height == 4
    with pytest.raises(DataError, match="'impressions' has no column 'converted'"):
        _check(_shown(converted=None))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"market": None, "Market": ["KR"] * 4}, "no column 'market' .*mean 'Market'"),
        (
            {"session_id": None, "timestamp": None},
            r"no column 'session_id' nor 'timestamp' \(its columns are impression_id, market, c",
        ),
        ({"price": ["a", "b", None, "c"]}, "'price' of impressions should hold numbers.*'a'"),
        ({"timestamp": [NOON.replace(tzinfo=None)] * 4}, "'timestamp' of impressions has no time"),
        ({"timestamp": ["2024-05-01 12:00"] * 4}, "has no time zone .*2024-05-01T09:30:00Z"),
        ({"timestamp": [1714555800] * 4}, "type is Int64; seconds since 1970"),
        ({"session_id": [["s"]] * 4}, "'session_id' of impressions should hold text"),
        ({"session_id": [0.5] * 4}, "'session_id' of impressions should hold text"),
        ({"free_shipping": ["yes"] * 4}, "'free_shipping' of impressions should hold true"),
        ({"discount_rate": [0.0, 20.0, 15.0, 5.0]}, r"percent \(3 of its 3 .* divide it by 100"),
        ({"market": [None] * 4}, "None of the 4 rows of impressions .*: market is missing"),
    ],
)
def test_tables_that_cannot_be_used(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _check(_shown(**columns))


def test_no_rows_of_impressions_are_refused() -> None:
    with pytest.raises(DataError, match="'impressions' has no rows"):
        _check(_shown().clear())


@pytest.mark.parametrize("discounts", [[0.2, 1.5, 0.0, 0.3], [0.0, 1.5, 0.0, 50.0]])
def test_a_few_discounts_above_one_are_slips_of_their_rows(discounts: list[float]) -> None:
    tables = _check(_shown(discount_rate=discounts))
    expected = [discount for discount in discounts if discount <= 1]
    assert tables.impressions["discount_rate"].to_list() == expected


def test_a_bad_price_or_hash_of_a_product_costs_its_impressions_nothing() -> None:
    products = pl.DataFrame(
        {
            "product_id": ["p", "q", "r"],
            "title": ["x", "y", "z"],
            "price": ["$1", "-1", "free"],
            "image_hash": [b"1", b"2", b"3"],
            "match_group": ["", "g", "g"],
        }
    )

    tables = _check(_shown(product_id=["p", "q", "r", "p"]), products=products)

    assert tables.products["title"].to_list() == ["x", "y", "z"]
    assert tables.products["price"].null_count() == 3
    assert tables.products["match_group"].to_list() == [None, "g", "g"]
    assert tables.counters["unknown_products"] == tables.rows["products"].set_aside == 0
    assert tables.notes == (
        "Prices of products that are no numbers from 0 up, taken as missing: 3.",
        "Match groups that are blank, taken as missing: 1.",
        "The column products.image_hash is not used: it should hold text or whole numbers, but "
        "its type is Binary.",
    )


def test_a_bad_price_of_an_impression_still_sets_it_aside() -> None:
    tables = _check(_shown(price=["1", "free", "-1", None]))

    assert tables.quarantine["reason"].to_list() == ["price is not a number", "price is negative"]
    with pytest.raises(DataError, match="'price' of impressions should hold numbers"):
        _check(_shown(price=["free"] * 4))


def test_columns_that_are_no_context_are_told() -> None:
    tables = _check(
        _shown(
            seen=[NOON] * 4,
            day=["2024-05-01", "2024-05-02", None, "2024-05-03"],
            tags=[["x"]] * 4,
            blank=pl.Series([None] * 4, dtype=pl.Float64),
            row=[5, 6, 7, 8],
        ),
        products=pl.DataFrame({"product_id": ["p"], "weight": [3]}),
    )
    assert tables.context == {"row (given)": "number"}
    assert set(tables.unused) == {
        "impressions.seen", "impressions.day", "impressions.tags", "impressions.blank",
        "products.weight",
    }  # fmt: skip
    assert sum("is not used: " in note for note in tables.notes) == 5
    assert tables.impressions["row"].to_list() == [0, 1, 2, 3]


def test_a_misspelt_column_of_the_contract_is_pointed_out() -> None:
    tables = _check(_shown(discount=[0.1, 0.2, 0.3, 0.4], position=[1, 2, 3, 4]))
    assert tables.notes == (
        "'discount' is a context column; rename it if it is meant to be 'discount_rate'.",
    )


def test_unknown_products_stay_and_are_counted() -> None:
    tables = _check(
        _shown(product_id=["p", "q", None, ""]),
        products=pl.DataFrame({"product_id": ["p"]}),
        events=pl.DataFrame(
            {"session_id": "s", "timestamp": [NOON], "event_type": "view", "product_id": ["q"]}
        ),
    )
    assert tables.impressions["product_id"].to_list() == ["p", "q", None, ""]
    assert tables.counters["unknown_products"] == 2
    assert tables.counters["unknown_event_products"] == 1
    assert "Impressions whose product is not in products, scored as missing: 2." in tables.notes
    assert _check(_shown(product_id=["p"] * 4)).counters["unknown_products"] == 0


def test_titles_are_cleaned_cut_and_counted(tmp_path: Path) -> None:
    titles = ["a\tb\0c\u0085", "한" * 100_000, None, "", "plain 👟 e\u0301"]
    products = pl.DataFrame({"product_id": list("abcde"), "title": titles})
    tables = _check(_shown(), products=products, max_title_chars=50)
    assert tables.products["title"].to_list() == [
        "a b c ", "한" * 50, None, "", "plain 👟 e\u0301",
    ]  # fmt: skip
    assert (tables.counters["titles_cleaned"], tables.counters["titles_cut"]) == (1, 1)
    assert len(tables.notes) == 2


def test_context_kinds_of_a_fit_are_kept_when_scoring() -> None:
    tables = _check(
        _shown(converted=None, position=["1", "2", "3", "4"], extra=[1, 2, 3, 4]),
        require_labels=False,
        context={"device": "category", "position": "number"},
    )
    assert tables.context == {"device": "category", "position": "number"}
    assert tables.impressions.columns[-3:] == ["device", "position", "row"]
    assert tables.impressions["position"].to_list() == [1.0, 2.0, 3.0, 4.0]
    assert tables.unused == {"impressions.extra": "the model was fitted without it"}
    assert "The context column 'device' is absent: it is scored as missing." in tables.notes


IDS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "c", "d", "e"]))
TIMES = st.one_of(
    st.none(),
    st.sampled_from(["2024-05-01T12:00:00Z", "2024-05-01 12:00:00", "x", "1500-01-01T00:00+09"]),
)
NUMBERS = st.one_of(st.none(), st.floats(), st.sampled_from([0.1, 0.5, 1.0]))
ROWS = st.fixed_dictionaries(
    {
        "impression_id": IDS,
        "session_id": IDS,
        "user_id": IDS,
        "timestamp": TIMES,
        "market": st.sampled_from([None, "", "KR", "US"]),
        "product_id": IDS,
        "price": NUMBERS,
        "discount_rate": NUMBERS,
        "propensity": NUMBERS,
        "free_shipping": st.sampled_from([None, 0, 1, 2]),
        "converted": st.sampled_from([None, "true", "False", "1", "?"]),
        "split": st.sampled_from([None, "train", "test", "tset"]),
        "device": st.sampled_from([None, "phone", "1"]),
    }
)
ANCHOR = {
    "impression_id": "sure", "session_id": "s", "user_id": None,
    "timestamp": "2024-05-01T12:00:00Z", "market": "KR", "product_id": None, "price": 1.0,
    "discount_rate": 0.5, "propensity": 1.0, "free_shipping": 1, "converted": "true",
    "split": "train", "device": "phone",
}  # fmt: skip
TYPES = dict.fromkeys(ANCHOR, pl.String()) | {
    "price": pl.Float64(), "discount_rate": pl.Float64(), "propensity": pl.Float64(),
    "free_shipping": pl.Int64(),
}  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROWS, max_size=12), place=st.integers(0, 12), labels=st.booleans())
def test_whatever_comes_in_is_used_or_set_aside(
    rows: list[dict[str, Any]], place: int, labels: bool
) -> None:
    # One good row, and enough good discounts that the column does not look like percent.
    sure = [{**ANCHOR, "impression_id": f"sure {number}"} for number in range(13)]
    rows = rows[:place] + sure + rows[place:]
    tables = _check(pl.DataFrame(rows, schema=TYPES), require_labels=labels)
    _balances(tables)
    assert not tables.quarantine["reason"].is_in([""]).any()
    used = tables.impressions
    assert used["impression_id"].is_unique().all()
    assert (
        used.select("session_id", "timestamp", "market").null_count().sum_horizontal().item() == 0
    )
    assert used["price"].drop_nulls().is_finite().all()
    assert used["discount_rate"].drop_nulls().is_between(0, 1).all()
    assert not labels or used["converted"].null_count() == 0
    given = pl.DataFrame(rows, schema=TYPES)[used["row"].to_list()]
    for name in ("impression_id", "user_id", "price", "device"):
        assert given[name].equals(used[name])


@settings(max_examples=50, deadline=None)
@given(titles=st.lists(st.one_of(st.none(), st.text()), min_size=1, max_size=6))
def test_any_title_gets_through_the_door(titles: list[str | None]) -> None:
    products = pl.DataFrame(
        {"product_id": [str(number) for number in range(len(titles))], "title": titles},
        schema={"product_id": pl.String, "title": pl.String},
    )
    tables = _check(_shown(), products=products, max_title_chars=20)
    _balances(tables)
    assert tables.products["title"].null_count() == titles.count(None)
    assert (tables.products["title"].str.len_chars().fill_null(0) <= 20).all()
