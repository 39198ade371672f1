"""Pictures and brands changed where they are shown, and asked about."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from features.arrays import EncodedMarket
from purchase_predictor.attribution.asking import Asker
from purchase_predictor.attribution.listings import ListingEffects


class LikesPictures:
    """A fusion that likes pictures, bright ones of a product more, and brand 3."""

    def predict_proba(self, data: EncodedMarket) -> np.ndarray:
        products = data.products
        seen = 0.25 * products.image[:, 0] + 0.75 * products.picture_phrases[:, 0]
        z = np.where(products.has_image, 1.0 + seen, 0.0)
        z = z + 0.5 * (products.brand == 3)
        return 1 / (1 + np.exp(2 - z[data.product]))


@pytest.fixture(scope="module")
def asker(market: EncodedMarket) -> Asker:
    """All pictures alike but for categories of two: what is swapped there is 0 and 1."""
    products, n = market.products, len(market.products)
    image = np.zeros((n, 2), np.float32)
    image[1::2, 0] = 1.0
    brand = np.where(np.arange(n) % 3 == 0, 3, 4).astype(np.int32)
    sold = brand[market.product] == 3
    changed = replace(
        market,
        products=replace(
            products, image=image, brand=brand, has_image=np.arange(n) > 0,
            picture_phrases=image[:, :1], picture_phrase_names=("sale",),
            category=(2 + (np.arange(n) // 2) % 4).astype(np.int32),
        ),
        converted=np.where(sold, 1.0, 0.0).astype(np.float32),
    )  # fmt: skip
    return Asker(
        LikesPictures(), SimpleNamespace(clicks_=None), changed, calibrate=lambda p, _: p, seed=0
    )


def test_the_effect_of_each_lever_is_the_mean_difference(asker: Asker) -> None:
    told: list[int] = []
    found = ListingEffects(asker).ask(0.95, advance=told.append)
    assert sum(told) == found["market"].n_unique()
    for market in found["market"].unique():
        own = {row["lever"]: row for row in found.filter(market=market).iter_rows(named=True)}
        sample = asker.sample(market)
        bright = sample.products.image[sample.product, 0]
        with_it = sample.products.has_image[sample.product]
        # less without than with: one, and one more of a bright picture
        assert own["image"]["logit"] == pytest.approx(1 + bright[with_it].mean(), abs=1e-5)
        assert own["image"]["n_impressions"] == with_it.sum()
        assert abs(own["image_swap"]["logit"]) <= 1.0
        without = ListingEffects(asker)._without_picture(sample)
        assert without is not None
        assert not without[0].products.picture_phrases[sample.product].any()
        swapped = ListingEffects(asker)._swapped(sample)
        assert swapped is not None
        _, after, told = swapped
        rows = after.product[told]
        # what a picture says comes with it
        np.testing.assert_array_equal(
            after.products.picture_phrases[rows, 0], after.products.image[rows, 0]
        )
        assert (after.products.image[rows] != sample.products.image[rows]).any()
        if "number_one_brand" in own:
            assert own["number_one_brand"]["logit"] == pytest.approx(0.5, abs=1e-5)
            others = sample.products.brand[sample.product] != 3
            assert own["number_one_brand"]["n_impressions"] == others.sum()
    assert "number_one_brand" in found["lever"].to_list()


def test_data_without_pictures_have_no_lever_of_pictures(asker: Asker) -> None:
    products = replace(asker.data.products, image=np.zeros((len(asker.data.products), 0)))
    bare = Asker(
        LikesBrand(), asker.preparation, replace(asker.data, products=products),
        calibrate=lambda p, _: p, seed=0,
    )  # fmt: skip
    found = ListingEffects(bare).ask(0.95, advance=lambda _: None)
    assert set(found["lever"]) == {"number_one_brand"}


class LikesBrand:
    """A fusion that likes brand 3."""

    def predict_proba(self, data: EncodedMarket) -> np.ndarray:
        return np.where(data.products.brand == 3, 0.4, 0.2)[data.product]
