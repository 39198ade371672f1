"""What an encoded market promises: nothing of the future, and one list alone as in the batch."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.arrays import LEFT_OUT, MISSING, TEST, TRAIN, UNSEEN, EncodedMarket
from features.clickstream import session_units
from features.culture import load_profiles, standardise
from features.encoding import FORMAT, FeatureEncoder
from features.schema import Tables, load_tables
from features.splits import Split, event_parts, split_impressions

MakeTables = Callable[..., Tables]
FitEncoder = Callable[..., FeatureEncoder]

# what a table of one list alone cannot tell: what the unit was shown before
EARLIER_LISTS = ("shown before",)


def visible(data: EncodedMarket, row: int) -> tuple[np.ndarray, ...]:
    """What row `row` sees of the events."""
    events = data.events
    seen = slice(data.sequence_start[data.sequence[row]], data.cut[row])
    return events.product[seen], events.event_type[seen], events.time[seen], events.log_gap[seen]


def assert_same_rows(one: EncodedMarket, other: EncodedMarket, ids: list[str]) -> None:
    """The rows of these impressions hold the same in both."""
    places = [
        [np.flatnonzero(data.impression_id == name)[0] for name in ids] for data in (one, other)
    ]
    np.testing.assert_array_equal(one.numbers[places[0]], other.numbers[places[1]])
    np.testing.assert_array_equal(one.categories[places[0]], other.categories[places[1]])
    np.testing.assert_array_equal(one.product[places[0]], other.product[places[1]])
    for here, there in zip(*places, strict=True):
        for mine, theirs in zip(visible(one, here), visible(other, there), strict=True):
            # the first visible event may have another one before it
            np.testing.assert_allclose(mine, theirs)


@pytest.fixture(scope="session")
def tiny_scored(tiny_tables: Tables, tiny_encoder: FeatureEncoder) -> EncodedMarket:
    return tiny_encoder.transform(tiny_tables, None)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 174), st.integers(0, 1000), st.booleans())
def test_events_at_or_after_an_impression_change_nothing(
    tiny_tables: Tables,
    tiny_split: Split,
    tiny_encoder: FeatureEncoder,
    tiny_data: EncodedMarket,
    tiny_scored: EncodedMarket,
    number: int,
    seed: int,
    training: bool,
) -> None:
    at = tiny_tables.impressions.row(4 * number, named=True)["timestamp"]
    future = pl.col("timestamp") >= at
    later = tiny_tables.events.filter(future)
    changed = later.with_columns(
        later["product_id"].shuffle(seed), later["event_type"].shuffle(seed + 1)
    )
    again = changed.sample(fraction=0.5, seed=seed).with_columns(row=pl.col("row") + 10_000)
    events = pl.concat([tiny_tables.events.filter(~future), changed, again])
    ids = tiny_tables.impressions.filter(pl.col("timestamp") == at)["impression_id"].to_list()
    split = tiny_split if training else None
    data = tiny_encoder.transform(replace(tiny_tables, events=events), split)
    assert_same_rows(tiny_data if training else tiny_scored, data, ids)


def test_events_before_an_impression_do_change_it(
    tiny_tables: Tables, tiny_encoder: FeatureEncoder
) -> None:
    whole = tiny_encoder.transform(tiny_tables, None)
    cut = tiny_encoder.transform(replace(tiny_tables, events=tiny_tables.events.head(0)), None)
    assert not np.array_equal(whole.numbers, cut.numbers, equal_nan=True)
    assert cut.flags["empty_history"].all()


@pytest.mark.parametrize("number", range(0, 175, 6))
def test_one_list_alone_is_encoded_as_in_the_batch(
    tiny_tables: Tables, tiny_encoder: FeatureEncoder, tiny_scored: EncodedMarket, number: int
) -> None:
    batch = tiny_scored
    rows = tiny_tables.impressions.filter(pl.col("list_id") == f"l{number}")
    units = session_units(tiny_tables)
    unit = dict(units.iter_rows())[rows["session_id"][0]]
    sessions = units.filter(pl.col("unit") == unit).select("session_id")
    events = tiny_tables.events.join(sessions, on="session_id", maintain_order="left")
    shown = tiny_tables.impressions.join(sessions, on="session_id", maintain_order="left")
    ids = rows["impression_id"].to_list()
    of_unit = tiny_encoder.transform(replace(tiny_tables, events=events, impressions=shown), None)
    assert_same_rows(of_unit, batch, ids)
    alone = tiny_encoder.transform(replace(tiny_tables, events=events, impressions=rows), None)
    assert_same_rows(without(alone, EARLIER_LISTS), without(batch, EARLIER_LISTS), ids)


def without(data: EncodedMarket, blocks: tuple[str, ...]) -> EncodedMarket:
    kept = [place for place, c in enumerate(data.number_columns) if c.block not in blocks]
    return replace(
        data,
        numbers=data.numbers[:, kept],
        number_columns=tuple(data.number_columns[place] for place in kept),
    )


def test_the_order_of_the_rows_does_not_matter(
    tiny_tables: Tables, tiny_split: Split, tiny_encoder: FeatureEncoder, tiny_data: EncodedMarket
) -> None:
    order = np.random.default_rng(1).permutation(len(tiny_split.part))
    shuffled = replace(
        tiny_tables,
        impressions=tiny_tables.impressions[order],
        events=tiny_tables.events.sample(fraction=1, shuffle=True, seed=1),
        products=tiny_tables.products.reverse(),
    )
    data = tiny_encoder.transform(shuffled, replace(tiny_split, part=tiny_split.part[order]))
    np.testing.assert_array_equal(data.row, tiny_data.row)
    np.testing.assert_array_equal(data.numbers, tiny_data.numbers)
    np.testing.assert_array_equal(
        data.products.product_id[data.product], tiny_data.products.product_id[tiny_data.product]
    )


def test_nothing_is_fitted_on_held_out_rows(
    tiny_tables: Tables, tiny_split: Split, fit_encoder: FitEncoder
) -> None:
    held_out = pl.Series(tiny_split.part != TRAIN)
    later = pl.Series(event_parts(tiny_tables, tiny_split) != TRAIN)
    changed = replace(
        tiny_tables,
        impressions=tiny_tables.impressions.with_columns(
            pl.when(held_out).then(pl.lit("new")).otherwise("market").alias("market"),
            pl.when(held_out).then(pl.lit("new")).otherwise("device").alias("device"),
            pl.when(held_out).then(~pl.col("converted")).otherwise("converted").alias("converted"),
        ),
        events=tiny_tables.events.with_columns(
            pl.when(later).then(pl.lit("new")).otherwise("event_type").alias("event_type"),
            pl.when(later).then(pl.lit("p0")).otherwise("product_id").alias("product_id"),
        ),
    )
    one, other = (fit_encoder(tables, tiny_split) for tables in (tiny_tables, changed))
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())


def test_the_encoder_survives_json(
    tiny_tables: Tables, tiny_split: Split, tiny_encoder: FeatureEncoder, tiny_data: EncodedMarket
) -> None:
    loaded = FeatureEncoder.from_dict(json.loads(json.dumps(tiny_encoder.to_dict())))
    data = loaded.transform(tiny_tables, tiny_split)
    np.testing.assert_array_equal(data.numbers, tiny_data.numbers)
    np.testing.assert_array_equal(data.categories, tiny_data.categories)
    np.testing.assert_array_equal(data.row_profile, tiny_data.row_profile)
    np.testing.assert_array_equal(data.products.phrases, tiny_data.products.phrases)
    assert data.number_columns == tiny_data.number_columns


def test_a_later_format_is_refused(tiny_encoder: FeatureEncoder) -> None:
    later = FORMAT + 1
    with pytest.raises(ValueError, match=f"expected feature format {FORMAT}, got {later}"):
        FeatureEncoder.from_dict({**tiny_encoder.to_dict(), "format": later})


def test_arrays_are_as_the_contract_says(
    tiny_tables: Tables, tiny_split: Split, tiny_data: EncodedMarket
) -> None:
    data, n = tiny_data, len(tiny_tables.impressions)
    assert len(data) == n
    assert sorted(data.row) == list(range(n))
    np.testing.assert_array_equal(data.part, tiny_split.part[data.row])
    np.testing.assert_array_equal(
        data.converted, tiny_tables.impressions["converted"].to_numpy()[data.row]
    )
    assert data.impression_id[0] == tiny_tables.impressions["impression_id"][int(data.row[0])]
    assert data.numbers.dtype == np.float32
    assert data.categories.dtype == np.int32
    assert not np.isinf(data.numbers).any()
    assert data.categories.min() >= MISSING
    for place, column in enumerate(data.category_columns):
        assert data.categories[:, place].max() < column.n_codes
    assert data.events.event_type.max() < data.events.n_types
    assert data.events.product.max() < len(data.products)
    assert (np.diff(data.events.unit) >= 0).all()
    assert (data.unit_fold[data.sequence] == data.unit).all()
    starts = np.diff(data.events.unit, prepend=-1) != 0
    assert (data.events.log_gap[starts] == 0).all()
    names = [column.name for column in data.number_columns + data.category_columns]
    assert len(names) == len(set(names))


def test_each_term_is_a_block_of_its_own_and_groups_are_as_agreed(
    tiny_data: EncodedMarket,
) -> None:
    columns = {c.name: c for c in tiny_data.number_columns + tiny_data.category_columns}
    blocks = {name: column.block for name, column in columns.items()}
    for term, name in (
        ("price", "log_price"),
        ("discount_rate", "discount_rate"),
        ("free_shipping", "free_shipping"),
    ):
        assert [n for n, block in blocks.items() if block == term] == [name]
        assert columns[name].group == "terms"
    groups = {"list prices": "terms", "this product": "clickstream", "recency": "clickstream"}
    groups |= {"popularity": "context", "time": "context", "context": "context"}
    for block, group in groups.items():
        assert {c.group for c in columns.values() if c.block == block} == {group}
    assert {"position", "device", "is_weekend"} <= {n for n, b in blocks.items() if b == "context"}


@pytest.mark.parametrize("name", ["randomised", "propensity", "match_group"])
def test_reserved_columns_are_no_inputs(
    tiny_tables: Tables, tiny_split: Split, fit_encoder: FitEncoder, tiny_data: EncodedMarket,
    name: str,
) -> None:  # fmt: skip
    value = {"randomised": pl.lit(True), "propensity": pl.lit(0.5), "match_group": pl.lit("one")}
    table = "products" if name == "match_group" else "impressions"
    frame = getattr(tiny_tables, table).with_columns(value[name].alias(name))
    tables = replace(tiny_tables, **{table: frame})
    data = fit_encoder(tables, tiny_split).transform(tables, tiny_split)
    np.testing.assert_array_equal(data.numbers, tiny_data.numbers)
    np.testing.assert_array_equal(data.categories, tiny_data.categories)


def test_events_carry_their_part_and_the_market_of_their_session(
    tiny_tables: Tables, tiny_split: Split, tiny_data: EncodedMarket
) -> None:
    parts = event_parts(tiny_tables, tiny_split)
    assert (tiny_data.events.part == TRAIN).sum() == (parts == TRAIN).sum() > 0
    assert set(np.unique(tiny_data.events.part)) == {TRAIN, LEFT_OUT}
    shown = dict(zip(tiny_data.session, tiny_data.market, strict=True))
    for session, market in zip(tiny_data.events.session, tiny_data.events.market, strict=True):
        assert market == shown.get(session, MISSING)


def test_a_market_that_was_not_trained_on_keeps_its_profile(
    make_tables: MakeTables, fit_encoder: FitEncoder
) -> None:
    rows = [
        {"timestamp": 1, "split": "train", "market": "KR"},
        {"timestamp": 2, "split": "test", "market": "US"},
        {"timestamp": 3, "split": "test", "market": "Atlantis"},
    ]
    tables = make_tables(rows)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    encoder = fit_encoder(tables, split)
    data = encoder.transform(tables, split)
    _, profiles = standardise(load_profiles())
    assert data.market.tolist() == [3, UNSEEN, UNSEEN]
    assert data.market_names[3:] == ("KR",)
    assert data.market_label.tolist() == ["KR", "US", "Atlantis"]
    assert data.flags["unseen_market"].tolist() == [False, True, True]
    assert data.flags["unknown_profile"].tolist() == [False, False, True]
    np.testing.assert_array_equal(data.row_profile[:2], [profiles["KR"], profiles["US"]])
    assert np.isnan(data.row_profile[2]).all()
    assert np.isnan(data.profile[:3]).all()
    np.testing.assert_array_equal(data.profile[3], profiles["KR"])
    told = encoder.with_profiles({"Atlantis": load_profiles()["JP"]}, "mine.yaml")
    later = FeatureEncoder.from_dict(json.loads(json.dumps(told.to_dict())))
    data = later.transform(tables, split)
    assert data.flags["unseen_market"].tolist() == [False, True, True]
    assert not data.flags["unknown_profile"].any()
    np.testing.assert_array_equal(data.row_profile[2], profiles["JP"])
    np.testing.assert_array_equal(data.row_profile[0], profiles["KR"])


def test_flags_say_what_was_missing(make_tables: MakeTables, fit_encoder: FitEncoder) -> None:
    rows = [
        {"timestamp": 1, "split": "train"},
        {"timestamp": 2, "split": "test", "product_id": None, "price": 1.0},
        {"timestamp": 3, "split": "test", "product_id": "nowhere"},
        {"timestamp": 4, "split": "test", "product_id": "b"},
    ]
    products = [{"product_id": "a", "title": "x", "image": None}]
    products += [{"product_id": "b", "title": None, "image": "b.png"}]
    tables = make_tables(rows, [{"timestamp": 1}], products)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    data = fit_encoder(tables, split).transform(tables, split)
    flags = {name: values.tolist() for name, values in data.flags.items()}
    assert flags["missing_product"] == [False, True, False, False]
    assert flags["unknown_product"] == [False, False, True, False]
    assert flags["missing_title"] == [False, True, True, True]
    assert flags["missing_image"] == [True, True, True, False]
    assert flags["missing_price"] == [True, False, True, True]
    assert flags["empty_history"] == [True, False, False, False]
    assert data.product.tolist() == [1, 0, 0, 2]


def test_sessions_without_products_and_events_can_be_encoded(
    fit_encoder: FitEncoder, make_tables: MakeTables
) -> None:
    rows = [
        {"session_id": f"s{n}", "timestamp": n, "product_id": None, "pages": float(n)}
        for n in range(20)
    ]
    tables = make_tables(rows)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    data = fit_encoder(tables, split).transform(tables, split)
    assert len(data.events) == 0
    assert data.cut.tolist() == [0] * 20
    assert data.flags["empty_history"].all()
    assert "pages" in [column.name for column in data.number_columns]
    assert (data.sequence_start == data.sequence_stop).all()


def test_rare_context_values_are_unseen(make_tables: MakeTables, fit_encoder: FitEncoder) -> None:
    rows = [
        {"session_id": f"s{n}", "timestamp": n, "split": "train", "city": "often"}
        for n in range(4)
    ]
    # many rows of one session are one occasion
    once = {"session_id": "r", "split": "train", "city": "once"}
    rows += [{**once, "timestamp": n} for n in range(5, 9)]
    tables = make_tables(rows)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    data = fit_encoder(tables, split).transform(tables, split)
    names = [column.name for column in data.category_columns]
    cities = data.categories[np.argsort(data.row), names.index("city")]
    assert cities.tolist() == [3] * 4 + [UNSEEN] * 4


def test_a_context_column_never_shares_the_name_of_another_input(
    make_tables: MakeTables, fit_encoder: FitEncoder
) -> None:
    rows = [
        {"timestamp": n, "split": "train", "last_event_type": "x", "list_size": 9.0, "pages": 1.0}
        for n in range(4)
    ]
    tables = make_tables(rows)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    data = fit_encoder(tables, split).transform(tables, split)
    names = [column.name for column in data.number_columns + data.category_columns]
    assert len(names) == len(set(names))
    assert {"last_event_type (given)", "list_size (given)", "list_size", "pages"} <= set(names)


def test_scoring_has_neither_labels_nor_training_rows(
    tiny_tables: Tables, tiny_encoder: FeatureEncoder
) -> None:
    unlabelled = tiny_tables.impressions.with_columns(converted=pl.lit(None, dtype=pl.Boolean))
    data = tiny_encoder.transform(replace(tiny_tables, impressions=unlabelled), None)
    labelled = tiny_encoder.transform(tiny_tables, None)
    assert (data.part == TEST).all()
    assert (data.events.part == LEFT_OUT).all()
    assert np.isnan(data.converted).all()
    np.testing.assert_array_equal(data.numbers, labelled.numbers)


@pytest.mark.slow
def test_a_real_multi_country_clickstream_is_encoded_whole(
    tmp_path: Path, fit_encoder: FitEncoder
) -> None:
    raw = Path("../shared/data/trivago/trivago_val_100k.parquet")
    if not raw.exists():
        pytest.skip("the trivago file is not beside the repository")
    from purchase_predictor.data.sources import trivago

    trivago.convert(raw, tmp_path / "data", drop=[])
    tables = load_tables(tmp_path / "data")
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    data = fit_encoder(tables, split, 40).transform(tables, split)
    assert len(data) == 312_539
    assert len(data.events) == 100_003
    assert data.list_number[-1] + 1 == 13_597
    assert not np.isinf(data.numbers).any()
    assert (data.part == TEST).sum() > 60_000
    seen = ~data.flags["empty_history"]
    assert (data.events.time[data.cut[seen] - 1] < data.time[seen]).all()
