"""Phrases of one's own: written where the model reads them, and nothing left out silently."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from features.arrays import EncodedMarket
from purchase_predictor.attribution.asking import Asker
from purchase_predictor.attribution.phrases import TitleEffects
from purchase_predictor.encoders.words import WordPieces
from purchase_predictor.errors import DataError

MAX_WORDS = 3
TITLE = "red running shoes for men"
PIECES = WordPieces.fit(pl.Series(["blue " + TITLE] * 4), 200)


class ReadsBlue:
    """A fusion that likes the word blue and reads the first `MAX_WORDS` pieces of a title."""

    def predict_proba(self, data: EncodedMarket) -> np.ndarray:
        blue = (data.products.words == PIECES.names.index("▁blue")).any(axis=1)
        return np.where(blue[data.product], 0.5, 0.2)


def encode(table: pl.DataFrame, _folder: object) -> SimpleNamespace:
    return SimpleNamespace(words=PIECES.encode(table["title"], MAX_WORDS), text=0.0)


def asked_of(data: EncodedMarket) -> TitleEffects:
    n = len(data.products.identity)
    words = np.zeros((n, MAX_WORDS), np.int32)
    products = replace(data.products, words=words, has_text=np.arange(n) > 0)
    groups = {name: {"KR": ["무료"]} for name in data.products.phrase_names}
    preparation = SimpleNamespace(
        content_=SimpleNamespace(encode=encode), features_=SimpleNamespace(phrases_=groups),
        clicks_=None,
    )  # fmt: skip
    table = pl.DataFrame({"title": [TITLE] * (n - 1), "image": ["p.png"] * (n - 1)})
    asker = Asker(
        ReadsBlue(), preparation, replace(data, products=products),
        calibrate=lambda p, _: p, seed=0,
    )  # fmt: skip
    return TitleEffects(asker, SimpleNamespace(products=table, folder=None))


def ask(
    data: EncodedMarket, groups: dict[str, dict[str, list[str]]]
) -> tuple[pl.DataFrame, list[str]]:
    warned: list[str] = []
    found = asked_of(data).ask(groups, 0.95, advance=lambda _: None, warn=warned.append)
    return found, warned


def test_a_phrase_is_written_where_the_model_reads_it(market: EncodedMarket) -> None:
    found, warned = ask(market, {"colour": {"KR": ["Blue"], "US": ["blue"]}})
    assert warned == []
    assert found["market"].to_list() == ["KR", "US"]
    # from 0.2 to 0.5 wherever a product is shown; rows of the missing product have no title
    np.testing.assert_allclose(found["logit"], np.log(4.0))
    np.testing.assert_allclose(found["points"], 30.0)
    assert found["logit_low"].is_not_null().all()


def test_one_user_gives_no_interval(market: EncodedMarket) -> None:
    alone = replace(market, unit=np.zeros_like(market.unit))
    found, _ = ask(alone, {"colour": {"KR": ["blue"]}})
    assert found["logit"].is_not_null().all()
    for name in ("logit_low", "logit_high", "points_low", "points_high"):
        assert found[name].null_count() == 1
        assert found[name].dtype == pl.Float64


def test_what_has_no_effect_is_named_in_one_warning(market: EncodedMarket) -> None:
    groups = {"colour": {"KR": ["blue"], "DE": ["blau"]}, "gift": {"FR": ["cadeau"]}}
    found, warned = ask(market, groups)
    assert found["market"].to_list() == ["KR"]
    assert warned == [
        "phrases without an effect: colour in DE (not in the data), colour in US (no words), "
        "gift in FR (not in the data), gift in KR (no words), gift in US (no words)"
    ]


def test_a_misspelt_market_is_refused_with_the_nearest_name(market: EncodedMarket) -> None:
    with pytest.raises(DataError, match="there is no market 'Kr'; did you mean 'KR'"):
        ask(market, {"colour": {"Kr": ["blue"], "US": ["blue"]}})
