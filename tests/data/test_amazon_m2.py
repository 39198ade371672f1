import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import CALIBRATE, LEFT_OUT, STOP, TEST, TRAIN
from features.schema import load_tables
from features.splits import split_impressions
from purchase_predictor.convert import main
from purchase_predictor.data.sources import amazon_m2
from purchase_predictor.data.sources.sampling import NONE, draw_lists, random_words
from purchase_predictor.errors import UserError

LOCALES = ("DE", "JP", "UK", "ES", "FR", "IT")
N_SESSIONS, N_PRODUCTS = 60, 25
PRODUCT_HEADER = "id,locale,title,price,brand,color,size,model,material,author,desc"


def printed(ids: list[str]) -> str:
    """As the publisher's file was made: what numpy prints, which breaks lines."""
    return str(np.array(ids, dtype=object))


def write_sessions(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    names = ["prev_items", "next_item", "locale"]
    pl.DataFrame(rows, schema=names, orient="row").write_csv(folder / "sessions_train.csv")


def write_products(folder: Path, rows: list[tuple[str, str, str | None, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema=["id", "locale", "title", "price"], orient="row")
    empty = (pl.lit(None, dtype=pl.String).alias(name) for name in ("model", "material", "author"))
    frame.with_columns(
        *empty, brand=pl.lit("Acme"), color=pl.lit("rot, blau"), size=pl.lit('12"'),
        desc=pl.lit("two\nlines"),
    ).select(PRODUCT_HEADER.split(",")).write_csv(folder / "products_train.csv")  # fmt: skip


def asin(number: int) -> str:
    return f"B0{number:08d}"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty sessions in each locale, one locale after the other; popular ids come first."""
    folder = tmp_path_factory.mktemp("amazon_m2")
    rng = np.random.default_rng(0)
    sessions = []
    for locale in LOCALES:
        for length in rng.integers(2, 14, N_SESSIONS):
            ids = [asin(n) for n in (N_PRODUCTS * rng.random(length + 1) ** 1.5).astype(int)]
            sessions.append((printed(ids[:-1]), ids[-1], locale))
    write_sessions(folder, sessions)
    prices = ("24.99", "0.0", "40000000.07", None, "39999999.0")
    write_products(
        folder,
        [
            (asin(n), locale, None if n == 7 else f"Titel {n}, {locale}", prices[n % 5])
            for locale in LOCALES
            for n in range(N_PRODUCTS)
        ],
    )
    return folder


@pytest.fixture(scope="module")
def converted(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    output = tmp_path_factory.mktemp("converted") / "out"
    return output, amazon_m2.convert(raw, output, drop=[])


def test_a_session_becomes_views_and_a_list_around_the_next_item(tmp_path: Path) -> None:
    write_sessions(
        tmp_path,
        [
            ("['B09W9FND7K' 'B09JSPLN1M']", "B09M7GY217", "DE"),
            ("['B076THCGSG' 'B007MO8IME'\n 'B076THCGSG']", "B001B4THSA", "DE"),
            ("['3955350843']", "B09W9FND7K", "UK"),
        ],
    )
    write_products(tmp_path, [("B09M7GY217", "DE", "Tee", "2.5"), ("B001B4THSA", "DE", "", "3")])

    counts = amazon_m2.convert(tmp_path, tmp_path / "out", drop=[])

    events = pl.read_parquet(tmp_path / "out/events.parquet")
    shown = pl.read_parquet(tmp_path / "out/impressions.parquet")
    assert counts == {
        "products": 2, "events": 6, "impressions": 5, "sessions": 3, "prices_missing": 0,
        "lists_short": 3,
    }  # fmt: skip
    assert events["session_id"].to_list() == ["DE-0", "DE-0", "DE-1", "DE-1", "DE-1", "GB-2"]
    assert events["product_id"].to_list() == [
        "DE-B09W9FND7K", "DE-B09JSPLN1M", "DE-B076THCGSG", "DE-B007MO8IME", "DE-B076THCGSG",
        "GB-3955350843",
    ]  # fmt: skip
    assert events["event_type"].unique().to_list() == ["view"]
    assert events["timestamp"].to_list()[:3] == [
        datetime(2001, 1, 1, tzinfo=UTC),
        datetime(2001, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(2002, 5, 16, tzinfo=UTC),  # the second of two: half of a thousand days later
    ]
    # with two products to choose from, each list has both, and the true one is the next item
    assert shown.filter("converted").select("list_id", "product_id", "price").rows() == [
        ("DE-0", "DE-B09M7GY217", 2.5), ("DE-1", "DE-B001B4THSA", 3.0),
        ("GB-2", "GB-B09W9FND7K", None),
    ]  # fmt: skip
    assert shown.group_by("list_id").len().sort("list_id")["len"].to_list() == [2, 2, 1]
    first = shown.filter(pl.col("list_id") == "DE-0")["timestamp"].unique().to_list()
    assert first == [datetime(2001, 1, 1, 0, 0, 2, tzinfo=UTC)]


def test_the_folder_passes_the_contract_with_nothing_set_aside(
    converted: tuple[Path, dict[str, int]],
) -> None:
    output, counts = converted

    tables = load_tables(output)

    assert all(rows.set_aside == 0 and rows.read for rows in tables.rows.values())
    assert tables.counters["unknown_products"] == tables.counters["unknown_event_products"] == 0
    assert counts["products"] == len(LOCALES) * N_PRODUCTS == len(tables.products)
    assert counts["sessions"] == len(LOCALES) * N_SESSIONS
    assert counts["impressions"] == len(tables.impressions) == 10 * counts["sessions"]
    assert counts["events"] == len(tables.events)
    assert counts["lists_short"] == 0
    assert tables.context == {}
    assert sorted(path.name for path in output.iterdir()) == [
        "events.parquet", "impressions.parquet", "products.parquet", "source.json",
    ]  # fmt: skip


def test_all_six_locales_are_markets_of_their_own(
    converted: tuple[Path, dict[str, int]],
) -> None:
    tables = load_tables(converted[0])

    markets = tables.impressions.group_by("market").len().sort("market")
    assert markets["market"].to_list() == ["DE", "ES", "FR", "GB", "IT", "JP"]
    assert markets["len"].unique().to_list() == [10 * N_SESSIONS]
    for name in ("product_id", "session_id"):
        prefix = pl.col(name).str.slice(0, 2)
        assert tables.impressions.select((prefix == pl.col("market")).all()).item()
    # one id in six locales: six listings of one group
    groups = tables.products.group_by("match_group").agg(pl.col("product_id").n_unique())
    assert groups["product_id"].unique().to_list() == [6]


def test_placeholder_prices_are_missing_and_high_ones_are_not(
    converted: tuple[Path, dict[str, int]],
) -> None:
    tables = load_tables(converted[0])

    prices = tables.products.filter(pl.col("product_id").str.starts_with("JP-"))["price"]
    assert prices.to_list()[:5] == [24.99, None, None, None, 39999999.0]
    assert converted[1]["prices_missing"] == len(LOCALES) * 15
    joined = tables.impressions.join(tables.products, on="product_id")
    assert joined.select(pl.col("price").eq_missing(pl.col("price_right")).all()).item()


def test_it_splits_by_time_in_every_market(converted: tuple[Path, dict[str, int]]) -> None:
    tables = load_tables(converted[0])

    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)

    part = pl.Series("part", split.part)
    assert split.n_straddling == 0
    assert LEFT_OUT not in part
    for market in tables.impressions["market"].unique():
        share = part.filter(tables.impressions["market"] == market)
        assert (share == TRAIN).mean() == pytest.approx(0.7, abs=0.03)
        assert share.is_in([STOP, CALIBRATE]).mean() == pytest.approx(0.1, abs=0.03)
        assert (share == TEST).mean() == pytest.approx(0.2, abs=0.03)


def test_a_list_has_one_true_item_among_different_ones_of_its_locale(
    raw: Path, converted: tuple[Path, dict[str, int]]
) -> None:
    shown = pl.read_parquet(converted[0] / "impressions.parquet")

    sessions = pl.read_csv(raw / "sessions_train.csv", infer_schema=False)
    lists = shown.group_by("list_id", maintain_order=True).agg(
        pl.col("converted").sum(),
        pl.col("product_id").n_unique(),
        pl.col("product_id").filter("converted").first().str.slice(3).alias("true"),
    )
    assert lists["converted"].unique().to_list() == [1]
    assert lists["product_id"].unique().to_list() == [10]
    assert lists["true"].to_list() == sessions["next_item"].to_list()


def test_neither_place_nor_popularity_tells_the_true_item() -> None:
    rng = np.random.default_rng(1)
    items = (5000 * rng.random(20_000) ** 3).astype(np.int64)
    taken = np.bincount(items)

    drawn = draw_lists(np.arange(20_000), items, n_sampled=9, window=20_000, seed=3)

    places = drawn.converted.sum(axis=0)
    assert drawn.n_short == 0
    assert np.abs(places - 2000).max() < 4 * np.sqrt(20_000 * 0.1 * 0.9)
    ranks = np.argsort(np.argsort(taken + rng.random(len(taken))))[drawn.item]
    gap = ranks[drawn.converted].mean() - ranks[~drawn.converted].mean()
    assert abs(gap) < 50  # of 5,000; even draws of all items would be a thousand apart


def test_the_place_of_the_true_item_is_even_in_the_files(
    converted: tuple[Path, dict[str, int]],
) -> None:
    shown = pl.read_parquet(converted[0] / "impressions.parquet")

    place = shown["impression_id"].str.split("-").list.last().cast(pl.Int64)
    places = place.filter(shown["converted"]).value_counts().sort("impression_id")["count"]
    expected = len(LOCALES) * N_SESSIONS / 10
    assert len(places) == 10
    assert (places - expected).abs().max() < 4 * np.sqrt(expected * 0.9)


def test_the_seed_decides_and_the_size_of_the_pieces_does_not(
    raw: Path,
    converted: tuple[Path, dict[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = pl.read_parquet(converted[0] / "impressions.parquet")

    again = amazon_m2.convert(raw, tmp_path / "again", drop=[])
    amazon_m2.convert(raw, tmp_path / "other", drop=[], seed=1)
    monkeypatch.setattr(amazon_m2, "CHUNK", 7)
    amazon_m2.convert(raw, tmp_path / "pieces", drop=[])

    assert again == converted[1]
    for table in ("products", "events", "impressions"):
        frame = pl.read_parquet(converted[0] / f"{table}.parquet")
        assert pl.read_parquet(tmp_path / f"again/{table}.parquet").equals(frame)
        assert pl.read_parquet(tmp_path / f"pieces/{table}.parquet").equals(frame)
    other = pl.read_parquet(tmp_path / "other/impressions.parquet")
    assert not other["product_id"].equals(first["product_id"])


def test_random_words_are_the_same_everywhere() -> None:
    words = random_words(2**63, np.array([0, 1, 2]), 5)

    assert [f"{word:016x}" for word in words] == [
        "4117ae723cc3fd3f", "d7bb711d6db124de", "257464e06ba9e25f",
    ]  # fmt: skip
    assert random_words(2**63, np.array([2]), 5)[0] == words[2]


def test_a_market_with_too_few_items_has_short_lists() -> None:
    items = np.array([0, 0, 1, 2, 1])

    drawn = draw_lists(np.arange(5), items, n_sampled=4, window=1, seed=0)

    assert drawn.n_short == 5
    assert sorted(drawn.item[0][:3]) == [0, 1, 2]
    assert (drawn.item[:, 3:] == NONE).all()
    assert drawn.converted.sum(axis=1).tolist() == [1] * 5
    assert (drawn.item[drawn.converted] == items).all()


def test_dropped_inputs_are_gone_and_named(raw: Path, tmp_path: Path) -> None:
    amazon_m2.convert(raw, tmp_path / "out", drop=["price", "brand"])

    assert "price" not in pl.read_parquet(tmp_path / "out/impressions.parquet").columns
    columns = pl.read_parquet(tmp_path / "out/products.parquet").columns
    assert columns == ["product_id", "title", "match_group"]
    described = json.loads((tmp_path / "out/source.json").read_text())
    assert described["dropped"] == ["price", "brand"]
    assert described["rows"]["impressions"] == 10 * len(LOCALES) * N_SESSIONS
    assert described["notes"] == list(amazon_m2.notes())
    with pytest.raises(UserError, match="did you mean 'title'"):
        amazon_m2.convert(raw, tmp_path / "out", drop=["titel"])


def _rename(name: str, other: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).rename(folder / other) and None


def _replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _rename("sessions_train.csv", "session_train.csv"),
            r"has no file 'sessions_train\.csv'; did you mean 'session_train\.csv'",
        ),
        (_rename("products_train.csv", "x"), r"has no file 'products_train\.csv'\.$"),
        (
            _replace("sessions_train.csv", "next_item", "next_items"),
            r"sessions_train\.csv has no column 'next_item'; did you mean 'next_items'",
        ),
        (
            _replace("products_train.csv", "locale", "local"),
            r"products_train\.csv has no column 'locale'; did you mean 'local'",
        ),
        (
            _replace("sessions_train.csv", ",DE\n", ",AT\n"),
            "session 1 has the locale 'AT', not one of DE, JP, UK, ES, FR, IT",
        ),
        (
            _replace("sessions_train.csv", "['B0", "[B0"),
            r"session 1 has the prev_items '\[B0.*', not ids in quotes between square brackets",
        ),
        (
            _replace("sessions_train.csv", "],B00", "],'' B00"),
            r"session \d+ has the next_item",
        ),
        (_replace("products_train.csv", "24.99", "dear"), "product 1 has the price 'dear'"),
        (_replace("products_train.csv", "24.99", "-1"), "product 1 has the price '-1'"),
        (
            _replace("products_train.csv", asin(1), asin(0)),
            f"the product {asin(0)} of the locale DE is there twice",
        ),
    ],
)
def test_another_layout_is_named_and_leaves_no_folder(
    raw: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("sessions_train.csv", "products_train.csv"):
        (folder / name).write_bytes((raw / name).read_bytes())
    change(folder)

    with pytest.raises(UserError, match=message):
        amazon_m2.convert(folder, tmp_path / "out", drop=[])

    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_an_empty_cell_is_named(tmp_path: Path) -> None:
    (tmp_path / "sessions_train.csv").write_text("prev_items,next_item,locale\n['B1'],,DE\n")
    write_products(tmp_path, [("B1", "DE", "a", "1")])

    with pytest.raises(UserError, match="session 1 has no next_item, not an id"):
        amazon_m2.convert(tmp_path, tmp_path / "out", drop=[])


def test_the_command_says_what_is_sampled_and_made_up(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["amazon-m2", "--raw", str(raw), "--output", str(output), "--sampled", "3"]

    code = main([*arguments, "--seed", "5", "--drop", "title"])

    said = capsys.readouterr().out
    assert code == 0
    assert "lists_short" in said
    assert "next product and 3 others, drawn (seed 5)" in said
    assert "Made up: times" in said
    assert len(pl.read_parquet(output / "impressions.parquet")) == 4 * len(LOCALES) * N_SESSIONS
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*arguments, "--drop", "colour"]) == 2
    assert "there is no input 'colour'" in capsys.readouterr().err
