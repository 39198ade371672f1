from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from features.arrays import TEST, TRAIN, EncodedMarket
from purchase_predictor.training.next_click import (
    N_CLICK_SCORES,
    SCORE_COLUMNS,
    NextClick,
    with_scores,
    without_scores,
)
from purchase_predictor.training.pretraining import next_click_loss
from purchase_predictor.training.shapes import shape_of
from tests.encoded_market import N_IDENTITIES, make_market
from tests.training.quick import SETTINGS, SIZES, quiet


def repeating_market() -> EncodedMarket:
    """Units that click one product again and again; half of the lists show it."""
    market = make_market(n_units=150, n_events=1500)
    favourite = (1 + market.events.unit % 29).astype(np.int32)
    events = replace(market.events, product=favourite)
    shown = np.where(np.arange(len(market)) % 2, 1 + market.unit % 29, market.product)
    identity = np.minimum(np.arange(30) + 2, N_IDENTITIES + 30).astype(np.int32)
    products = replace(market.products, identity=identity)
    return replace(market, events=events, product=shown.astype(np.int32), products=products)


def test_next_click_scores_find_the_product_of_the_history_on_unseen_units() -> None:
    market = repeating_market()
    settings = SETTINGS.model_copy(
        update={
            "pretraining": SETTINGS.pretraining.model_copy(update={"epochs": 10}),
            "training": SETTINGS.training.model_copy(update={"patience": 20}),
        }
    )
    sizes = replace(SIZES, n_identities=N_IDENTITIES + 40)
    shape = without_scores(shape_of(market, sizes))
    clicks = NextClick(shape, settings).fit(market, progress=quiet)
    seen = (market.cut > market.sequence_start[market.sequence]) & (market.product > 0)
    same = market.product == 1 + market.unit % 29
    seen &= ~np.isnan(clicks.scores_[:, 0])
    for rows in (seen & (market.part == TRAIN), seen & (market.part == TEST)):
        assert roc_auc_score(same[rows], clicks.scores_[rows, 0]) > 0.8


def scored_by(cross_fit: str, market: EncodedMarket) -> NextClick:
    pretraining = SETTINGS.pretraining.model_copy(update={"cross_fit": cross_fit})
    settings = SETTINGS.model_copy(update={"pretraining": pretraining})
    return NextClick(without_scores(shape_of(market, SIZES)), settings).fit(market, progress=quiet)


@pytest.mark.parametrize("cross_fit", ["time", "units"])
def test_scores_of_training_rows_come_from_other_encoders_than_those_of_test_rows(
    market: EncodedMarket, cross_fit: str
) -> None:
    clicks = scored_by(cross_fit, market)
    own = clicks.score(market)
    known = market.product > 0
    training = known & (market.part == TRAIN) & ~np.isnan(clicks.scores_[:, 0])
    others = known & (market.part == TEST)
    for column in (0, N_CLICK_SCORES):
        assert (clicks.scores_[training, column] != own[training, column]).mean() > 0.9
    np.testing.assert_array_equal(clicks.scores_[others], own[others])
    assert np.isnan(clicks.scores_[~known]).all()
    assert with_scores(market, own).number_columns[-len(SCORE_COLUMNS) :] == SCORE_COLUMNS


def test_a_row_is_scored_by_what_came_before_its_block_of_time(market: EncodedMarket) -> None:
    events, training = market.events, market.part == TRAIN
    edges = np.quantile(market.time[training], [1 / 3, 2 / 3])
    later = events.time >= edges[1]
    changed = np.where(later & (events.product > 0), 1 + events.product % 29, events.product)
    other = replace(market, events=replace(events, product=changed.astype(np.int32)))
    # rows of the middle block look at nothing that was changed, nor does their encoder
    rows = training & (market.time >= edges[0]) & (market.time < edges[1]) & (market.product > 0)

    before, after = (
        scored_by("time", data).scores_[:, :N_CLICK_SCORES] for data in (market, other)
    )

    assert np.isnan(before[training & (market.time < edges[0]), 0]).all()
    np.testing.assert_allclose(before[rows], after[rows], atol=1e-5)
    assert np.abs(before[~rows] - after[~rows])[~np.isnan(before[~rows])].max() > 1e-4


def test_taste_is_cross_fitted_by_shopper(market: EncodedMarket) -> None:
    events, training = market.events, market.part == TRAIN
    clicks = scored_by("time", market)
    # the first block of time, which has no lift, has taste
    known = training & (market.product > 0)
    assert np.isnan(clicks.scores_[known, 0]).any()
    assert np.isfinite(clicks.scores_[known, N_CLICK_SCORES]).all()

    # what a shopper does afterwards tells nothing of the rows before; what others do does
    unit = int(np.bincount(market.unit[known]).argmax())
    own = known & (market.unit == unit)
    last = int(market.cut[own].max())
    after = (events.unit == unit) & (np.arange(len(events)) >= last)
    others = (events.unit != unit) & (events.part == TRAIN)
    found = {}
    for name, moved in (("after", after), ("others", others)):
        product = np.where(moved & (events.product > 0), 1 + events.product % 29, events.product)
        other = replace(market, events=replace(events, product=product.astype(np.int32)))
        found[name] = scored_by("time", other).scores_[own, N_CLICK_SCORES]
    before = clicks.scores_[own, N_CLICK_SCORES]
    np.testing.assert_allclose(found["after"], before, atol=1e-5)
    assert np.abs(found["others"] - before).max() > 1e-3


def test_a_fold_whose_others_turned_to_nothing_has_no_taste(market: EncodedMarket) -> None:
    events = market.events
    product = np.where(events.unit == events.unit[0], events.product, 0).astype(np.int32)
    alone = replace(market, events=replace(events, product=product))
    scores = scored_by("time", alone).scores_[:, N_CLICK_SCORES]
    training = (market.part == TRAIN) & (market.product > 0)
    n_unknown = np.isnan(scores[training]).sum()
    assert 0 < n_unknown < training.sum()


def test_next_click_loss_of_a_perfect_score_is_zero_and_without_targets_too(
    market: EncodedMarket,
) -> None:
    from purchase_predictor.model.session import ClickEncoder
    from purchase_predictor.training.pretraining import ClickTask

    model = ClickEncoder(shape=without_scores(shape_of(market, SIZES)), settings=SETTINGS.model)
    task = ClickTask(
        "clicks",
        model,
        market,
        learnable=np.ones(len(market.events), bool),
        known=np.ones(len(market), bool),
        settings=SETTINGS,
    )
    batch = next(task.batches(0, 0, 0, 1))
    states = model(batch.products, batch.sessions)
    n_products, length = len(states.keys), batch.sessions.product.shape[1]
    keys = 50.0 * torch.eye(n_products)
    queries = torch.nn.functional.one_hot(batch.sessions.product, n_products).float()
    perfect = replace(
        states, keys=keys, queries=torch.cat([queries, torch.zeros_like(queries[:, :1])], dim=1)
    )
    nothing = replace(batch.sessions, learn=torch.zeros_like(batch.sessions.learn))

    assert queries.shape[1] == length
    assert next_click_loss(perfect, batch.sessions).item() < 1e-6
    assert next_click_loss(states, batch.sessions, batch).item() > 0.5
    assert next_click_loss(states, nothing).item() == 0.0
