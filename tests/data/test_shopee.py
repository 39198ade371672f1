import json
from pathlib import Path

import polars as pl
import pytest

from features.catalogue import load_catalogue
from purchase_predictor.data.sources import shopee
from purchase_predictor.data.sources.shopee import decode_title
from purchase_predictor.errors import UserError

REAL = Path(__file__).parents[2] / "../shared/data/shopee"
TRAIN = r'''posting_id,image,image_phash,title,label_group
train_1,a.jpg,94974f937d4c2433,Paper Bag,30
train_2,b.jpg,af3f9460c2838f0f,"Tape 3M, 12 mm ""ori""",9
train_3,a.jpg,94974f937d4c2433,Nescafe \xc3\x89clair,30
train_4,../c.jpg,b94cb00ed3e50f78,"b""MOM'S \xe2\x9d\xa4 \\ Oil\nNew""",9
train_5,d.jpg,8514fc58eafea283,,7
'''


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "train_images").mkdir(parents=True)
    (folder / "train.csv").write_text(TRAIN)
    test = [line.rpartition(",")[0] for line in TRAIN.splitlines()]
    (folder / "test.csv").write_text("\n".join(test).replace("train_", "test_") + "\n")
    (folder / "train_images/a.jpg").write_bytes(b"picture a")
    (folder / "c.jpg").write_bytes(b"picture c")
    (folder / "d.jpg").write_bytes(b"picture d")
    return folder


def test_listings_become_products_with_groups_hashes_and_the_pictures_at_hand(
    raw: Path, tmp_path: Path
) -> None:
    counts = shopee.convert(raw, tmp_path / "out", drop=[])

    products = load_catalogue(tmp_path / "out").products
    assert counts == {
        "products": 5, "groups": 3, "titles_decoded": 2, "titles_undecodable": 0,
        "with_picture": 3,
    }  # fmt: skip
    assert products["product_id"].to_list() == [f"train_{number}" for number in range(1, 6)]
    assert products["match_group"].to_list() == ["30", "9", "30", "9", "7"]
    assert products["image_hash"].to_list()[:2] == ["94974f937d4c2433", "af3f9460c2838f0f"]
    # ../c.jpg is there, but a name is no path
    assert products["image"].to_list() == ["images/a.jpg", None, "images/a.jpg", None,
                                           "images/d.jpg"]  # fmt: skip
    assert (tmp_path / "out/images/a.jpg").read_bytes() == b"picture a"
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["a.jpg", "d.jpg"]


def test_titles_are_decoded_and_missing_ones_stay_missing(raw: Path, tmp_path: Path) -> None:
    shopee.convert(raw, tmp_path / "out", drop=[])

    titles = pl.read_parquet(tmp_path / "out/products.parquet")["title"].to_list()
    assert titles == [
        "Paper Bag", 'Tape 3M, 12 mm "ori"', "Nescafe Éclair", "MOM'S ❤ \\ Oil\nNew", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "title",
    ["plain", "", "a 'quoted' word", "Éclair \t", "line\r\nline", "b", "❤ \\ ❤", '"both\' of\\"'],
)
def test_what_python_prints_for_the_bytes_of_a_title_is_undone(title: str) -> None:
    printed = repr(title.encode())
    published = printed if printed.startswith('b"') else printed[2:-1]

    assert decode_title(published) == title


@pytest.mark.parametrize(
    ("title", "decoded"),
    [
        ("caf\u00e9", "caf\u00e9"),
        ('b"', 'b"'),
        ("PRIA\\WANITA", None),
        ("half \\xe2\\x9d", None),
        ("\\xe9", None),
        ("caf\u00e9 \\n", None),
        ("the end \\", None),
        ("\\x4", None),
    ],
)
def test_a_title_that_was_not_printed_so_is_left_and_told(title: str, decoded: str | None) -> None:
    assert decode_title(title) == decoded


def test_titles_that_cannot_be_decoded_are_kept_and_counted(raw: Path, tmp_path: Path) -> None:
    (raw / "train.csv").write_text(TRAIN.replace("Paper Bag", r"Paper \ Bag"))

    counts = shopee.convert(raw, tmp_path / "out", drop=[])

    assert (counts["titles_decoded"], counts["titles_undecodable"]) == (2, 1)
    products = pl.read_parquet(tmp_path / "out/products.parquet")
    assert products["title"][0] == r"Paper \ Bag"


def test_the_file_without_groups_converts_too(raw: Path, tmp_path: Path) -> None:
    counts = shopee.convert(raw / "test.csv", tmp_path / "out", drop=[])

    products = load_catalogue(tmp_path / "out").products
    assert (counts["products"], counts["groups"]) == (5, 0)
    assert products["match_group"].null_count() == 5
    assert products["product_id"][0] == "test_1"


def test_hashes_alone_make_no_picture_folder(raw: Path, tmp_path: Path) -> None:
    for file in ("train_images/a.jpg", "c.jpg", "d.jpg"):
        (raw / file).unlink()

    counts = shopee.convert(raw, tmp_path / "out", drop=[])

    assert counts["with_picture"] == 0
    assert not (tmp_path / "out/images").exists()
    assert load_catalogue(tmp_path / "out").products["image_hash"].null_count() == 0


def test_dropped_inputs_are_gone_and_named(raw: Path, tmp_path: Path) -> None:
    shopee.convert(raw, tmp_path / "out", drop=["image", "title"])

    columns = pl.read_parquet(tmp_path / "out/products.parquet").columns
    assert columns == ["product_id", "image_hash", "match_group"]
    assert not (tmp_path / "out/images").exists()
    assert json.loads((tmp_path / "out/source.json").read_text())["dropped"] == ["image", "title"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_phash", "phash", "no column 'image_phash'; did you mean 'phash'"),
        ("Paper Bag", 'Paper "Bag', "differs from its layout|does not convert|cannot be read"),
    ],
)
def test_another_layout_is_named_and_leaves_no_folder(
    raw: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    (raw / "train.csv").write_text(TRAIN.replace(old, new))

    with pytest.raises(UserError, match=message):
        shopee.convert(raw, tmp_path / "out", drop=[])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_an_unknown_input_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'image_hash'"):
        shopee.convert(raw, tmp_path / "out", drop=["image_phash"])


def test_real_file_keeps_every_listing(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the Shopee listings are not here (../shared/data/shopee)")

    counts = shopee.convert(REAL, tmp_path / "out", drop=[])

    assert (counts["products"], counts["groups"]) == (34_250, 11_014)
    assert counts["titles_undecodable"] == 0
    assert counts["titles_decoded"] == 1_049
    catalogue = load_catalogue(tmp_path / "out")
    assert catalogue.rows.set_aside == catalogue.counters["hashes_unreadable"] == 0
    titles = catalogue.products["title"]
    assert "Nescafe Éclair Latte 220ml" in titles
    assert not titles.str.contains(r"\\x[0-9a-f]{2}").any()
    for image in catalogue.products["image"].drop_nulls():
        assert (tmp_path / "out" / image).is_file()
