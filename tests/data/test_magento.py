import json
from pathlib import Path

import polars as pl
import pytest

from features.catalogue import load_catalogue
from purchase_predictor.data.sources import magento
from purchase_predictor.errors import UserError

REAL = Path(__file__).parents[2] / "../shared/data/magento"
HOODIES = "Default Category/Men/Tops/Hoodies & Sweatshirts,Default Category/Collections/Eco"
EXPORT = f"""sku,product_type,categories,name,description,price,base_image,additional_images,\
configurable_variations
MH01-XS-Black,simple,"{HOODIES}",Chaz Hoodie-XS-Black,"<p>Warm
and dry</p>",53,/m/h/mh01-black_main.jpg,,
MH01-S-Black,simple,"{HOODIES}",Chaz Hoodie-S-Black,,52,/m/h/mh01-black_main.jpg,,
MH01-XS-Gray,simple,"{HOODIES}",Chaz Hoodie-XS-Gray,,52,/m/h/mh01-gray_main.jpg,\
"/m/h/mh01-gray_alt1.jpg,/m/h/mh01-gray_back.jpg",
MH01,configurable,"{HOODIES}",Chaz  Hoodie &trade;,,,/m/h/mh01-gray_main.jpg,\
"/m/h/mh01-gray_side.jpg,/m/h/mh01-red_main.jpg",\
"sku=MH01-XS-Black,size=XS,color=Black|sku=MH01-S-Black,size=S,color=Black\
|sku=MH01-XS-Gray,size=XS,color=Gray"
WB01-S-Black,simple,Default Category/Women,Bra-S-Black,,39,/w/b/wb01-black_main.jpg,\
/w/b/wb01-black-0.jpg,
WB01,configurable,Default Category/Women,Bra,,,/w/b/wb01-black_main.jpg,,\
"sku=WB01-S-Black,size=S,color=Black"
GIFT,virtual,Default Category,Gift Card,,,/g/i/gift.jpg,,
"""
GEAR = """category,name,sku,price
"Gear
Bags
Collections",Yoga Bag ,24-WB01,32
"Gear
Fitness Equipment",Foam Roller,24-WG088,
"""
PHOTOS = (
    "m/h/mh01-black_main.jpg", "m/h/mh01-gray_main.jpg", "m/h/mh01-gray_alt1.jpg",
    "m/h/mh01-gray_back.jpg", "m/h/mh01-gray_side.jpg", "m/h/mh01-red_main.jpg",
    "w/b/wb01-black_main.jpg", "w/b/wb01-black-0.jpg", "w/b/wb01-black-0_alt1.jpg",
    "w/b/wb01-sand-0.jpg", "l/t/lt01.jpg",
)  # fmt: skip


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "configurable_products.csv").write_text(EXPORT)
    (folder / "gear_bags.csv").write_text(GEAR)
    (folder / "reviews.csv").write_text("sku,review\n")
    for photo in PHOTOS:
        (folder / "images" / photo).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / photo).write_bytes(photo.encode())
    return folder


def _photos(products: pl.DataFrame, group: str) -> list[str | None]:
    """File names of a match group's photos."""
    shown = products.filter(pl.col("match_group") == group)["image"]
    return [None if photo is None else photo.rpartition("/")[2] for photo in shown]


def test_every_photo_is_a_listing_and_a_colour_a_match_group(raw: Path, tmp_path: Path) -> None:
    counts = magento.convert(raw, tmp_path / "out", drop=[])

    products = load_catalogue(tmp_path / "out").products
    assert counts == {
        "products": 12, "groups": 8, "groups_with_several_photos": 2, "without_photo": 2,
        "photos_missing": 1, "photos_of_no_product": 1,
    }  # fmt: skip
    # two sizes share the one photo of their colour
    assert _photos(products, "MH01-Black") == ["mh01-black_main.jpg"]
    # the main photo first, then the further ones, then that of the configurable product alone
    assert _photos(products, "MH01-Gray") == [
        "mh01-gray_main.jpg", "mh01-gray_alt1.jpg", "mh01-gray_back.jpg", "mh01-gray_side.jpg",
    ]  # fmt: skip
    ids = products.filter(pl.col("match_group") == "MH01-Gray")["product_id"]
    assert ids.to_list() == [f"MH01-Gray-{number}" for number in (1, 2, 3, 4)]


def test_a_photo_of_a_colour_that_is_not_sold_is_a_group_of_its_own(
    raw: Path, tmp_path: Path
) -> None:
    magento.convert(raw, tmp_path / "out", drop=[])

    products = pl.read_parquet(tmp_path / "out/products.parquet")
    assert _photos(products, "MH01-red") == ["mh01-red_main.jpg"]


def test_gear_finds_its_photos_by_name_and_keeps_them_from_apparel(
    raw: Path, tmp_path: Path
) -> None:
    magento.convert(raw, tmp_path / "out", drop=[])

    products = pl.read_parquet(tmp_path / "out/products.parquet")
    assert _photos(products, "24-WB01-black-0") == ["wb01-black-0.jpg", "wb01-black-0_alt1.jpg"]
    assert _photos(products, "24-WB01-sand-0") == ["wb01-sand-0.jpg"]
    assert _photos(products, "WB01-Black") == ["wb01-black_main.jpg"]
    assert products["image"].drop_nulls().is_unique().all()


def test_a_product_without_a_photo_is_one_listing_without_a_picture(
    raw: Path, tmp_path: Path
) -> None:
    magento.convert(raw, tmp_path / "out", drop=[])

    products = pl.read_parquet(tmp_path / "out/products.parquet")
    assert _photos(products, "24-WG088") == _photos(products, "GIFT") == [None]


def test_titles_are_the_products_own_words_without_colour_and_size(
    raw: Path, tmp_path: Path
) -> None:
    magento.convert(raw, tmp_path / "out", drop=[])

    products = pl.read_parquet(tmp_path / "out/products.parquet")
    rows = {row["match_group"]: row for row in products.iter_rows(named=True)}
    titles = {group: row["title"] for group, row in rows.items()}
    assert titles == {
        "MH01-Black": "Chaz  Hoodie ™", "MH01-Gray": "Chaz  Hoodie ™",
        "MH01-red": "Chaz  Hoodie ™", "WB01-Black": "Bra", "GIFT": "Gift Card",
        "24-WB01-black-0": "Yoga Bag", "24-WB01-sand-0": "Yoga Bag", "24-WG088": "Foam Roller",
    }  # fmt: skip
    categories = {row["match_group"]: row["category"] for row in rows.values()}
    assert categories["MH01-Gray"] == "Men/Tops/Hoodies & Sweatshirts"
    assert categories["24-WB01-sand-0"] == "Gear/Bags"
    assert categories["GIFT"] is None
    prices = {group: row["price"] for group, row in rows.items()}
    assert prices["MH01-Black"] == 52  # the lowest of its sizes
    assert prices["GIFT"] is prices["24-WG088"] is None


def test_photos_come_along_under_their_own_paths(raw: Path, tmp_path: Path) -> None:
    magento.convert(raw, tmp_path / "out", drop=[])

    written = list((tmp_path / "out/images").rglob("*.jpg"))
    assert len(written) == len(PHOTOS) - 1
    for path in written:
        assert path.read_bytes().decode() == path.relative_to(tmp_path / "out/images").as_posix()


def test_dropped_inputs_are_gone_and_named(raw: Path, tmp_path: Path) -> None:
    magento.convert(raw, tmp_path / "out", drop=["image", "price"])

    columns = pl.read_parquet(tmp_path / "out/products.parquet").columns
    assert columns == ["product_id", "title", "category", "match_group"]
    assert not (tmp_path / "out/images").exists()
    assert json.loads((tmp_path / "out/source.json").read_text())["dropped"] == ["image", "price"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("configurable_products.csv", "product_type", "type", "no column 'product_type'"),
        ("configurable_products.csv", ",53,", ",cheap,", "price of MH01-XS-Black is 'cheap'"),
        ("gear_bags.csv", "category", "kind", "gear_bags.csv has no column 'category'"),
        ("gear_bags.csv", ",32", ",32 USD", "price of 24-WB01 is '32 USD'"),
    ],
)
def test_another_layout_is_named_and_leaves_no_folder(
    raw: Path, tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    (raw / file).write_text((raw / file).read_text().replace(old, new))

    with pytest.raises(UserError, match=message):
        magento.convert(raw, tmp_path / "out", drop=[])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_an_export_without_photos_is_refused(raw: Path, tmp_path: Path) -> None:
    (raw / "images").rename(raw / "photos")

    with pytest.raises(UserError, match="no folder .*images with photos"):
        magento.convert(raw, tmp_path / "out", drop=[])


def test_real_export_uses_every_photo_once(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the Magento catalogue is not here (../shared/data/magento)")

    counts = magento.convert(REAL, tmp_path / "out", drop=[])

    products = load_catalogue(tmp_path / "out").products
    shown = products["image"].drop_nulls()
    assert counts["photos_missing"] == 0
    assert len(shown) == 725 - counts["photos_of_no_product"] == 709
    assert shown.is_unique().all()
    assert (counts["products"], counts["without_photo"]) == (711, 2)
    assert counts["groups_with_several_photos"] == 152
    bag = products.filter(pl.col("image") == "images/w/b/wb01-black-0.jpg")
    assert bag["title"].to_list() == ["Voyage Yoga Bag"]
