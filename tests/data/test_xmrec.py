import gzip
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import CALIBRATE, LEFT_OUT, STOP, TEST, TRAIN
from features.schema import load_tables
from features.splits import split_impressions
from purchase_predictor.convert import main
from purchase_predictor.data.sources import xmrec
from purchase_predictor.errors import UserError

MARKETS = {"uk": 500, "jp": 300, "us": 900}
CATEGORIES = ("Books", "Cell_Phones_and_Accessories")


def write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three markets with the same items, as the publisher's folders; item n is new in month n."""
    folder = tmp_path_factory.mktemp("xmrec")
    rng = np.random.default_rng(0)
    for market, n in MARKETS.items():
        for category, prefix in zip(CATEGORIES, ("00", "B0"), strict=True):
            days = np.sort(rng.integers(0, 1000, n))
            items = (rng.random(n) * (days / 30 + 15)).astype(int)
            users = rng.integers(0, n // 4, n)
            pairs = dict.fromkeys(zip(users.tolist(), items.tolist(), days.tolist(), strict=True))
            lines = [
                f"A{user:027d} {prefix}{item:08d} {rng.integers(1, 6)}.0 "
                f"{date(2015, 1, 1) + timedelta(days=day)}"
                for user, item, day in pairs
            ]
            kind = "txt" if market == "jp" else "txt.gz"
            write(folder / market / category / f"ratings_{market}_{category}.{kind}", lines)
        # some of the publisher's files are empty
        write(folder / market / "Kindle" / f"ratings_{market}_Kindle_Store.txt.gz", [])
        write(folder / market / "Kindle" / f"metadata_{market}_Kindle_Store.json.gz", ["{}"])
    return folder


@pytest.fixture(scope="module")
def converted(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    output = tmp_path_factory.mktemp("converted") / "out"
    return output, xmrec.convert(raw, output, drop=[])


def test_a_rating_becomes_an_event_and_a_list_on_its_date(tmp_path: Path) -> None:
    write(
        tmp_path / "raw/ratings_uk_Books.txt",
        [
            "AB 0061806765 3 2012-08-20",
            "AA 0007273754 5.0 2013-11-24",
            "AA 0061806765 1.0 2013-11-24",
            "AA 0061806765 4 2014-01-01",  # again: the first counts
            "AC 0061806765 4 ",
        ],
    )
    write(tmp_path / "raw/ratings_jp_Music.txt.gz", ["AA 0061806765 5.0 2013-11-25"])

    counts = xmrec.convert(tmp_path / "raw", tmp_path / "out", drop=[])

    events = pl.read_parquet(tmp_path / "out/events.parquet")
    shown = pl.read_parquet(tmp_path / "out/impressions.parquet")
    products = pl.read_parquet(tmp_path / "out/products.parquet")
    assert counts == {
        "products": 2, "events": 4, "impressions": 5, "markets": 2, "undated": 1, "repeated": 1,
        "lists_short": 4,
    }  # fmt: skip
    assert events.rows() == [
        ("JP-AA-2013-11-25", "AA", datetime(2013, 11, 25, tzinfo=UTC), "rating", "0061806765"),
        ("GB-AB-2012-08-20", "AB", datetime(2012, 8, 20, tzinfo=UTC), "rating", "0061806765"),
        ("GB-AA-2013-11-24", "AA", datetime(2013, 11, 24, tzinfo=UTC), "rating", "0007273754"),
        ("GB-AA-2013-11-24", "AA", datetime(2013, 11, 24, tzinfo=UTC), "rating", "0061806765"),
    ]
    true = shown.filter("converted")
    assert true["product_id"].to_list() == events["product_id"].to_list()
    for name in ("session_id", "user_id", "timestamp"):
        assert true[name].to_list() == events[name].to_list()
    assert true["market"].to_list() == ["JP", "GB", "GB", "GB"]
    # only AB has not rated the other item too
    assert shown.filter(~pl.col("converted"))["user_id"].to_list() == ["AB"]
    assert products.select("product_id", "category").rows() == [
        ("0007273754", "Books"), ("0061806765", "Books"),
    ]  # fmt: skip


def test_the_folder_passes_the_contract_with_nothing_set_aside(
    converted: tuple[Path, dict[str, int]],
) -> None:
    output, counts = converted

    tables = load_tables(output)

    assert all(rows.set_aside == 0 and rows.read for rows in tables.rows.values())
    assert tables.counters["unknown_products"] == tables.counters["unknown_event_products"] == 0
    assert sorted(tables.impressions["market"].unique()) == ["GB", "JP", "US"]
    assert counts["markets"] == 3
    assert counts["undated"] == counts["lists_short"] == 0
    assert counts["repeated"] > 0
    assert counts["events"] == len(tables.events)
    assert counts["impressions"] == len(tables.impressions) == 10 * counts["events"]
    assert sorted(tables.products["category"].unique()) == list(CATEGORIES)
    assert tables.context == {}


def test_it_splits_by_time_in_every_market(converted: tuple[Path, dict[str, int]]) -> None:
    tables = load_tables(converted[0])

    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)

    part = pl.Series("part", split.part)
    assert split.n_straddling == 0
    assert LEFT_OUT not in part
    for market in ("GB", "JP", "US"):
        share = part.filter(tables.impressions["market"] == market)
        assert (share == TRAIN).mean() > 0.5
        assert share.is_in([STOP, CALIBRATE]).any()
        assert (share == TEST).mean() > 0.1


def test_no_list_shows_what_its_user_rates_at_another_time(
    converted: tuple[Path, dict[str, int]],
) -> None:
    tables = load_tables(converted[0])

    key = ["market", "user_id", "product_id"]
    rated = tables.events.with_columns(pl.col("session_id").str.slice(0, 2).alias("market"))
    others = tables.impressions.filter(~pl.col("converted"))
    assert others.join(rated, on=key, how="semi").is_empty()
    lists = tables.impressions.group_by("list_id").agg(
        pl.col("converted").sum(), pl.col("product_id").n_unique(), pl.col("timestamp").n_unique()
    )
    assert lists.select(pl.exclude("list_id")).unique().rows() == [(1, 10, 1)]


def test_what_is_not_yet_sold_is_not_shown(
    converted: tuple[Path, dict[str, int]],
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xmrec, "WINDOW", 40)

    xmrec.convert(raw, tmp_path / "out", drop=[])

    shown = pl.read_parquet(tmp_path / "out/impressions.parquet")
    number = pl.col("product_id").str.slice(2).cast(pl.Int64)
    years = (
        shown.group_by("converted", pl.col("timestamp").dt.year().alias("year"))
        .agg(number.mean().alias("number"))
        .pivot("converted", index="year", values="number")
        .sort("year")
    )
    assert years["false"].is_sorted()
    assert (years["false"] - years["true"]).abs().max() < 2.5


def test_the_place_of_the_true_item_is_even(converted: tuple[Path, dict[str, int]]) -> None:
    shown = pl.read_parquet(converted[0] / "impressions.parquet")

    place = shown["impression_id"].str.split("-").list.last().cast(pl.Int64)
    places = place.filter(shown["converted"]).value_counts().sort("impression_id")["count"]
    expected = converted[1]["events"] / 10
    assert len(places) == 10
    assert (places - expected).abs().max() < 4 * np.sqrt(expected * 0.9)


def test_neither_the_order_of_the_lines_nor_the_pieces_decide(
    raw: Path,
    converted: tuple[Path, dict[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for file in raw.rglob("ratings_*"):
        packed = file.read_bytes()
        text = gzip.decompress(packed).decode() if file.suffix == ".gz" else packed.decode()
        write(tmp_path / "raw" / file.name.removesuffix(".gz"), text.splitlines()[::-1])
    monkeypatch.setattr(xmrec, "CHUNK", 97)

    counts = xmrec.convert(tmp_path / "raw", tmp_path / "out", drop=[])
    xmrec.convert(tmp_path / "raw", tmp_path / "other", drop=[], seed=1)

    assert counts == converted[1]
    for table in ("products", "events", "impressions"):
        frame = pl.read_parquet(converted[0] / f"{table}.parquet")
        assert pl.read_parquet(tmp_path / f"out/{table}.parquet").equals(frame)
    first = pl.read_parquet(tmp_path / "out/impressions.parquet")["product_id"]
    assert not pl.read_parquet(tmp_path / "other/impressions.parquet")["product_id"].equals(first)


def test_one_file_alone_and_its_input_dropped(raw: Path, tmp_path: Path) -> None:
    file = raw / "jp/Books/ratings_jp_Books.txt"

    xmrec.convert(file, tmp_path / "out", drop=["category"], n_sampled=2)

    shown = pl.read_parquet(tmp_path / "out/impressions.parquet")
    assert pl.read_parquet(tmp_path / "out/products.parquet").columns == [
        "product_id", "title", "image",
    ]  # fmt: skip
    assert shown.group_by("list_id").len()["len"].unique().to_list() == [3]
    described = json.loads((tmp_path / "out/source.json").read_text())
    assert described["dropped"] == ["category"]
    assert described["raw"] == ["ratings_jp_Books.txt"]
    assert described["rows"]["impressions"] == len(shown)
    assert described["notes"] == list(xmrec.notes(2))
    with pytest.raises(UserError, match="did you mean 'category'"):
        xmrec.convert(file, tmp_path / "out", drop=["categori"])


def _file(name: str, *lines: str) -> Callable[[Path], None]:
    return lambda folder: write(folder / name, list(lines))


GOOD = "AA 0061806765 5.0 2013-11-25"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_file("notes.txt"), r"no file ratings_MARKET_CATEGORY\.txt\.gz in or below the folder"),
        (
            _file("rating_uk_Books.txt.gz", GOOD),
            r"did you mean 'rating_uk_Books\.txt\.gz'",
        ),
        (_file("t1/train_5core.tsv", "userId\titemId\trating"), "WSDM Cup 2022, whose ratings"),
        (_file("ratings_gb_Books.txt", GOOD), "of the market 'gb', which the publisher does not"),
        (
            _file("ratings_uk_Books.txt", "AA 0061806765 5.0"),
            r"first line has 3 columns instead of 4, userId itemId rate date \(no date\)",
        ),
        (_file("ratings_uk_Books.txt", f"{GOOD} x"), "first line has 5 columns instead of 4"),
        (_file("ratings_uk_Books.txt", GOOD, f"{GOOD} x"), "cannot be read"),
        (
            _file("ratings_uk_Books.txt", "userId itemId rate date", GOOD),
            "line 1 has the rate 'rate', not a number from 1 to 5",
        ),
        (
            _file("ratings_uk_Books.txt.gz", GOOD, GOOD.replace("5.0", "9")),
            "line 2 has the rate '9', not a number from 1 to 5",
        ),
        (
            _file("ratings_uk_Books.txt", GOOD, GOOD.replace("2013-11-25", "25/11/2013")),
            "line 2 has the date '25/11/2013', not a date as YYYY-MM-DD",
        ),
        (_file("ratings_uk_Books.txt", GOOD, " 0061806765 5.0 2013-11-25"), "no userId"),
        (_file("ratings_uk_Books.txt"), "are empty"),
        (_file("ratings_uk_Books.txt", "AA 0061806765 5.0 "), "hold no rating with a date"),
    ],
)
def test_another_layout_is_named_and_leaves_no_folder(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "raw")

    with pytest.raises(UserError, match=message):
        xmrec.convert(tmp_path / "raw", tmp_path / "out", drop=[])

    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_the_same_ratings_twice_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw/ratings_uk_Books.txt", [GOOD])
    write(tmp_path / "raw/ratings_uk_Books.txt.gz", [GOOD])

    with pytest.raises(UserError, match="ratings of uk Books are there twice"):
        xmrec.convert(tmp_path / "raw", tmp_path / "out", drop=[])

    (tmp_path / "raw/ratings_uk_Books.txt").unlink()
    packed = tmp_path / "raw/ratings_uk_Books.txt.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"Books\.txt\.gz cannot be read"):
        xmrec.convert(tmp_path / "raw", tmp_path / "out", drop=[])
    with pytest.raises(UserError, match="neither a file nor a folder"):
        xmrec.convert(tmp_path / "absent", tmp_path / "out", drop=[])
    write(tmp_path / "Books.txt", [GOOD])
    with pytest.raises(UserError, match="must be called ratings_MARKET_CATEGORY"):
        xmrec.convert(tmp_path / "Books.txt", tmp_path / "out", drop=[])


def test_the_command_says_what_is_sampled_and_made_up(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"

    code = main(["xmrec", "--raw", str(raw / "jp"), "--output", str(output), "--sampled", "4"])

    said = capsys.readouterr().out
    assert code == 0
    assert "repeated" in said
    assert "a rated item and 4 others, drawn (seed 0)" in said
    assert "Made up: the hour" in said
    assert main(["xmrec", "--raw", str(tmp_path / "x"), "--output", str(output)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
