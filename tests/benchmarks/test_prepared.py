"""Rows without a modality hold nothing of it."""

import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.prepared import DROPPED_COLUMNS, PeakMemory, without_modality
from features.arrays import N_RESERVED, TEST, EncodedMarket
from purchase_predictor.settings import load_settings
from purchase_predictor.training.next_click import SCORE_COLUMNS, with_scores
from purchase_predictor.training.shapes import ContentSizes
from purchase_predictor.tuning.prepared import Prepared, make_system, with_clicks

SETTINGS = load_settings(
    overrides=[
        "model.d_model=16", "model.n_layers=1", "model.n_members=2", "pretraining.epochs=1",
        "pretraining.n_negatives=8", "pretraining.n_folds=2", "training.max_epochs=1",
        "training.precision=float32",
    ]
)  # fmt: skip
SIZES = ContentSizes(n_identities=12, n_categories=7, n_brands=7, n_word_pieces=40)


def silent(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def prepared(market: EncodedMarket) -> Prepared:
    """Rows with scores of a click encoder that is not there: nothing is trained again."""
    scores = np.ones((len(market), len(SCORE_COLUMNS)), np.float32)
    return Prepared(
        data=with_scores(market, scores), sizes=SIZES, clicks=None, click_auc={}, seconds=1.0
    )


def dropped(prepared: Prepared, modality: str) -> EncodedMarket:
    return without_modality(prepared, modality, SETTINGS, progress=silent).data


@pytest.mark.parametrize("modality", DROPPED_COLUMNS)
def test_columns_of_its_groups_and_scores_of_all_modalities_go(
    prepared: Prepared, modality: str
) -> None:
    data = dropped(prepared, modality)

    columns = [*data.number_columns, *data.category_columns]
    assert not {column.group for column in columns} & set(DROPPED_COLUMNS[modality])
    assert not {column.name for column in columns} & {column.name for column in SCORE_COLUMNS}
    assert data.numbers.shape == (len(prepared.data), len(data.number_columns))
    assert data.categories.shape == (len(prepared.data), len(data.category_columns))
    places = {column.name: place for place, column in enumerate(prepared.data.number_columns)}
    kept = [places[column.name] for column in data.number_columns]
    np.testing.assert_array_equal(data.numbers, prepared.data.numbers[:, kept])


def test_without_text_there_are_no_words(prepared: Prepared) -> None:
    products = dropped(prepared, "text").products

    assert products.words.shape[1] == products.text.shape[1] == 0
    assert not products.has_text.any()
    assert not products.phrases.any()
    # what pictures say is learned from titles
    assert products.picture_phrases.shape[1] == len(products.picture_phrase_names) == 0
    assert products.has_image.any()


def test_without_pictures_there_are_no_vectors(prepared: Prepared) -> None:
    products = dropped(prepared, "image").products

    assert products.image.shape[1] == products.picture_phrases.shape[1] == 0
    assert not products.has_image.any()
    assert products.has_text.any()


def test_without_terms_the_country_is_not_told(prepared: Prepared) -> None:
    data = dropped(prepared, "terms")

    assert np.unique(data.market).tolist() == [N_RESERVED]
    assert np.unique(data.events.market).tolist() == [N_RESERVED]
    assert np.isnan(data.row_profile).all()
    assert np.isnan(data.products.price_level).all()


def test_without_terms_no_price_tells_of_taste(prepared: Prepared) -> None:
    first = with_clicks(replace(prepared, clicks={}), SETTINGS, progress=silent)

    without = without_modality(first, "terms", SETTINGS, progress=silent).data

    names = [column.name for column in without.number_columns]
    of_price = [name.startswith("taste_for_price") for name in names]
    assert sum(of_price) == 3
    assert np.isnan(without.numbers[:, of_price]).all()
    assert np.isfinite(without.numbers[:, names.index("taste_for_product")]).any()


def test_without_clickstream_there_are_no_events(prepared: Prepared) -> None:
    data = dropped(prepared, "clickstream")

    assert len(data.events) == 0
    assert not data.cut.any()


@pytest.mark.parametrize("modality", DROPPED_COLUMNS)
def test_the_fusion_learns_without_it(prepared: Prepared, modality: str) -> None:
    without = without_modality(prepared, modality, SETTINGS, progress=silent)
    system = make_system("fusion", SETTINGS, without).fit(without.data, seed=0, progress=silent)

    p = system.predict_proba(without.data.select(without.data.part == TEST))

    assert ((p > 0) & (p < 1)).all()


def test_clicks_are_learned_again_without_what_was_dropped(prepared: Prepared) -> None:
    first = with_clicks(replace(prepared, clicks={}), SETTINGS, progress=silent)

    without = without_modality(first, "text", SETTINGS, progress=silent)

    n = len(SCORE_COLUMNS)
    assert without.data.number_columns[-n:] == SCORE_COLUMNS
    for column in range(-n, -2):
        scores, before = (rows.data.numbers[:, column] for rows in (without, first))
        assert np.isfinite(before).any()
        assert not np.array_equal(scores, before, equal_nan=True)
    assert np.isnan(first.data.numbers[:, -2:]).all()  # the rows have no prices to multiply
    assert not any("words" in name for name in without.clicks or {})


def test_the_peak_is_seen_though_it_is_gone_at_the_end() -> None:
    with PeakMemory() as small:
        pass

    with PeakMemory() as large:
        block = np.ones(40_000_000)  # 0.32 GB
        for _ in range(500):  # until the thread has looked, 5 s at most
            if large.gb > small.gb + 0.2:
                break
            time.sleep(0.01)
        del block

    assert large.gb > small.gb + 0.2
