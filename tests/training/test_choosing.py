from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from features.arrays import MISSING, TEST, TRAIN, EncodedMarket
from purchase_predictor.model.choice import ChoiceModel, sum_between
from purchase_predictor.settings import load_settings
from purchase_predictor.training import choosing
from purchase_predictor.training import tastes as tastes_module
from purchase_predictor.training.choosing import ChoiceTask, Histories, fit_choices
from purchase_predictor.training.loop import no_epoch
from purchase_predictor.training.next_click import NextClick, without_scores
from purchase_predictor.training.shapes import ContentSizes, shape_of
from purchase_predictor.training.tastes import tastes
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES, N_WORD_PIECES, make_market

SHAPE_SIZES = ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, N_WORD_PIECES)
SETTINGS = (
    "pretraining.taste_epochs=30", "pretraining.taste_rank=3", "pretraining.taste_classes=8",
    "pretraining.taste_models=1",
)  # fmt: skip


def quiet(_line: str) -> None:
    pass


def tasteful_market() -> EncodedMarket:
    """Every second unit turns to products whose picture is bright, the others to dark ones."""
    market = make_market(n_units=200, n_events=3000)
    rng = np.random.default_rng(1)
    image = rng.normal(size=market.products.image.shape).astype(np.float32)
    bright = np.arange(len(market.products)) % 2
    image[:, 0] = np.where(bright, 2.0, -2.0)
    liked = market.events.unit % 2
    other = rng.random(len(market.events)) < 0.15
    product = 2 * rng.integers(1, 14, size=len(market.events)) + np.where(other, 1 - liked, liked)
    products = replace(
        market.products,
        image=image,
        has_image=np.ones(len(image), bool),
        has_text=np.zeros(len(image), bool),
    )
    events = replace(market.events, product=product.astype(np.int32))
    return replace(market, products=products, events=events)


def fit_all(market: EncodedMarket, *changes: str) -> list[ChoiceModel]:
    return fit_choices(
        "choice",
        market,
        without_scores(shape_of(market, SHAPE_SIZES)),
        load_settings(None, [*SETTINGS, *changes]),
        learnable=np.ones(len(market.events), bool),
        known=np.ones(len(market), bool),
        progress=quiet,
        on_epoch=no_epoch,
    )


def fit(market: EncodedMarket) -> ChoiceModel:
    (model,) = fit_all(market)
    return model


@pytest.fixture(scope="module")
def tasteful() -> EncodedMarket:
    return tasteful_market()


@pytest.fixture(scope="module")
def fitted(tasteful: EncodedMarket) -> ChoiceModel:
    return fit(tasteful)


def unfitted(market: EncodedMarket) -> tuple[ChoiceTask, ChoiceModel]:
    """A task, and a model whose weights all say something."""
    torch.manual_seed(0)
    model = ChoiceModel(
        shape=without_scores(shape_of(market, SHAPE_SIZES)),
        rank=3,
        n_classes=5,
        n_products=len(market.products),
    ).eval()
    for weight in (model.popularity, model.share, model.event_weight):
        torch.nn.init.normal_(weight)
    everything = {
        "learnable": np.ones(len(market.events), bool),
        "known": np.ones(len(market), bool),
    }
    return ChoiceTask("choice", model, market, **everything, seed=0), model


def n_turned_to(market: EncodedMarket, row: int) -> int:
    """How often the row's unit had turned to a product."""
    events = market.events
    mine = np.flatnonzero((events.unit == market.unit[row]) & (events.product > 0))
    product = events.product[mine[mine < market.cut[row]]]
    return int((np.diff(product, prepend=-1) != 0).sum())


def test_taste_tells_what_units_like_though_no_row_is_learned_from(
    tasteful: EncodedMarket, fitted: ChoiceModel
) -> None:
    found = tastes([fitted], tasteful)
    liked = tasteful.product % 2 == tasteful.unit % 2
    n = np.array([n_turned_to(tasteful, row) for row in range(len(tasteful))])
    for part in (TRAIN, TEST):
        rows = (tasteful.part == part) & (tasteful.product > 0) & (n > 2)
        assert roc_auc_score(liked[rows], found[rows, 0]) > 0.9


def test_several_models_start_apart_and_are_told_by_their_mean(tasteful: EncodedMarket) -> None:
    models = fit_all(tasteful, "pretraining.taste_models=2", "pretraining.taste_epochs=2")
    one, two = (tastes([model], tasteful) for model in models)
    known = tasteful.product > 0
    assert np.abs(one[known] - two[known]).max() > 1e-3
    np.testing.assert_allclose(tastes(models, tasteful), (one + two) / 2, atol=1e-6)
    (alone,) = fit_all(tasteful, "pretraining.taste_epochs=2")
    np.testing.assert_allclose(tastes([alone], tasteful), one, atol=1e-6)
    # another seed shares no start
    others = fit_all(
        tasteful, "pretraining.taste_models=2", "pretraining.taste_epochs=2", "seed=1"
    )
    starts = [model.tastes.detach().numpy() for model in (*models, *others)]
    for number, start in enumerate(starts):
        assert all(np.abs(start - before).max() > 1e-3 for before in starts[:number])


def test_a_fit_tells_one_line(tasteful: EncodedMarket) -> None:
    said: list[str] = []
    epochs: list[int] = []
    fit_choices(
        "choice", tasteful, without_scores(shape_of(tasteful, SHAPE_SIZES)),
        load_settings(
            None, [*SETTINGS, "pretraining.taste_models=2", "pretraining.taste_epochs=3"]
        ),
        learnable=np.ones(len(tasteful.events), bool), known=np.ones(len(tasteful), bool),
        progress=said.append, on_epoch=lambda _name, epoch, _figures: epochs.append(epoch),
    )  # fmt: skip
    assert [line.partition(":")[0] for line in said] == ["choice-0", "choice-1"]
    assert all("epoch 3/3" in line for line in said)
    assert epochs == [0, 1, 2, 0, 1, 2]


def test_all_models_travel_with_the_click_encoder(tasteful: EncodedMarket, tmp_path: Path) -> None:
    settings = load_settings(
        None,
        [
            *SETTINGS, "pretraining.taste_models=2", "pretraining.taste_epochs=1",
            "pretraining.epochs=1", "pretraining.n_folds=2", "model.d_model=16",
            "pretraining.n_negatives=8",
        ],
    )  # fmt: skip
    shape = without_scores(shape_of(tasteful, SHAPE_SIZES))
    clicks = NextClick(shape, settings).fit(tasteful, progress=quiet)
    clicks.save(tmp_path / "clicks")
    again = NextClick.load(tmp_path / "clicks", settings)
    assert len(again.choices_) == 2
    np.testing.assert_array_equal(again.score(tasteful), clicks.score(tasteful))
    clicks.choices_ = clicks.choices_[:1]
    assert np.nanmax(np.abs(again.score(tasteful) - clicks.score(tasteful))) > 1e-4


def test_taste_without_history_is_zero_and_without_product_unknown(
    tasteful: EncodedMarket, fitted: ChoiceModel
) -> None:
    found = tastes([fitted], tasteful)
    without = tasteful.product == 0
    assert np.isnan(found[without]).all()
    assert not np.isnan(found[~without]).any()
    new = [r for r in np.flatnonzero(~without) if n_turned_to(tasteful, r) == 0]
    assert len(new) > 0
    np.testing.assert_allclose(found[new], 0, atol=1e-6)


def test_taste_is_the_mean_over_classes_worked_out_row_by_row(
    tasteful: EncodedMarket, fitted: ChoiceModel
) -> None:
    found, events = tastes([fitted], tasteful), tasteful.events
    with torch.no_grad():
        vectors = fitted.vectors(
            choosing.product_batch(tasteful.products, np.arange(len(tasteful.products)))
        )
        utility = (vectors @ fitted.tastes.T).double().numpy()
        weights = fitted.event_weight.double().numpy()
        share = fitted.log_share.exp().double().numpy()
        dearer = (fitted.tastes @ fitted.price).double().numpy()
    for row in np.flatnonzero(tasteful.product > 0)[:60]:
        market = tasteful.market[row]
        log_total = fitted.log_total[market].double().numpy()
        centre = fitted.centre[market].double().numpy()
        belief, before = np.log(share), 0
        for place in range(len(events)):
            product = int(events.product[place])
            if events.unit[place] != tasteful.unit[row] or place >= tasteful.cut[row]:
                continue
            if not product:
                continue
            if product != before:
                belief = belief + utility[product] - log_total
            belief = belief + weights[events.event_type[place]] * (utility[product] - centre)
            before = product
        posterior = np.exp(belief - belief.max())
        beyond = posterior / posterior.sum() - share
        expected = beyond @ (utility[tasteful.product[row]] - centre), beyond @ dearer
        assert found[row] == pytest.approx(expected, abs=2e-4)


def test_the_log_likelihood_is_that_of_a_mixture_worked_out_event_by_event(
    tasteful: EncodedMarket,
) -> None:
    task, model = unfitted(tasteful)
    batch = next(task.batches(0, 0, 0, 1))
    with torch.no_grad():
        utility = (model.vectors(batch.products) @ model.tastes.T).double()
        popularity = model.popularity[batch.row].double()
        found = model(batch)
        centre = popularity.softmax(0) @ utility
    for number in range(0, len(batch.target), 7):
        last = int(batch.target[number])
        log_prior = model.log_share.double().detach()
        for event in range(int(batch.opens[number]), last + 1):
            product = int(batch.event[event])
            sold = max(int(batch.n_sold[event]), product + 1)
            choice = (utility + popularity[:, None])[:sold].log_softmax(dim=0)[product]
            if event == last:
                belief = log_prior.log_softmax(dim=0)
                expected = (belief + choice).logsumexp(dim=0)
                break
            weight = model.event_weight[batch.event_type[event]].double().detach()
            log_prior = log_prior + weight * (utility[product] - centre)
            if batch.turns[event]:
                log_prior = log_prior + choice
        assert found[number].item() == pytest.approx(expected.item(), abs=1e-4)


def test_shoppers_who_shun_dear_products_are_told_from_those_who_seek_them() -> None:
    market = tasteful_market()
    image = np.zeros_like(market.products.image)
    level = np.where(np.arange(len(image)) % 2, 1.0, -1.0).astype(np.float32)
    market = replace(market, products=replace(market.products, image=image, price_level=level))
    found = tastes([fit(market)], market)[:, 1]
    n = np.array([n_turned_to(market, row) for row in range(len(market))])
    rows = (market.part == TEST) & (market.product > 0) & (n > 2)
    assert roc_auc_score(market.unit[rows] % 2, found[rows]) > 0.9


def test_where_no_row_has_a_product_no_taste_is_told(
    tasteful: EncodedMarket, fitted: ChoiceModel
) -> None:
    nothing = replace(tasteful, product=np.zeros_like(tasteful.product))
    assert np.isnan(tastes([fitted], nothing)).all()


def test_many_shoppers_are_scored_in_pieces(
    tasteful: EncodedMarket, fitted: ChoiceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tastes([fitted], tasteful)
    monkeypatch.setattr(tastes_module, "EVENTS_AT_ONCE", 40)
    monkeypatch.setattr(tastes_module, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(tastes([fitted], tasteful), whole, atol=1e-5)


def test_one_unit_alone_is_scored_as_in_the_batch(
    tasteful: EncodedMarket, fitted: ChoiceModel
) -> None:
    found = tastes([fitted], tasteful)
    rows = tasteful.unit == tasteful.unit[len(tasteful) // 2]
    np.testing.assert_allclose(tastes([fitted], tasteful.select(rows)), found[rows], atol=1e-5)


def test_a_market_that_was_not_learned_gets_the_mean_of_the_others(fitted: ChoiceModel) -> None:
    for values in (fitted.log_total, fitted.centre):
        torch.testing.assert_close(values[MISSING], values[3:].mean(dim=0))


def test_products_are_told_from_a_sample_where_a_market_sells_many(
    tasteful: EncodedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "MOST_ALTERNATIVES", 10)
    model = fit(tasteful)
    found = tastes([model], tasteful)
    liked = tasteful.product % 2 == tasteful.unit % 2
    n = np.array([n_turned_to(tasteful, row) for row in range(len(tasteful))])
    rows = (tasteful.part == TEST) & (tasteful.product > 0) & (n > 2)
    assert roc_auc_score(liked[rows], found[rows, 0]) > 0.9


def test_batches_hold_every_target_once_with_what_was_sold_by_then(
    tasteful: EncodedMarket,
) -> None:
    task, _ = unfitted(tasteful)
    events, n = tasteful.events, 0
    for batch in task.batches(0, 0, 0, 1):
        n += len(batch.target)
        # what was turned to in training was seen no later than then
        assert (batch.n_sold > batch.event).all()
        assert (batch.n_sold <= len(batch.row)).all()
    assert n == task.learn.turns.sum()
    assert (events.part[task.learn.place] == TRAIN).all()


def test_histories_run_shopper_by_shopper_within_a_market(tasteful: EncodedMarket) -> None:
    histories = Histories.of(tasteful.events, np.ones(len(tasteful.events), bool))
    events = tasteful.events
    assert (np.diff(histories.market) >= 0).all()
    for place in range(1, len(histories.place)):
        same = (histories.market[place] == histories.market[place - 1]) and (
            events.unit[histories.place[place]] == events.unit[histories.place[place - 1]]
        )
        assert (histories.first[place] == histories.first[place - 1]) == same
        if same:
            assert histories.place[place] > histories.place[place - 1]


def test_sums_before_are_those_of_the_shoppers_own_events() -> None:
    values = torch.arange(1.0, 7.0)[:, None]
    opens = torch.tensor([0, 0, 0, 3, 3, 3])
    at = torch.tensor([0, 2, 3, 5])
    found = sum_between(values, opens[at], at)
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 3.0, 0.0, 9.0]))
