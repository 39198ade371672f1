from contextlib import nullcontext

import pytest
import torch

from purchase_predictor.model.layers import (
    Dropout,
    EnsembleHead,
    MarketNorm,
    NumberEmbeddings,
    attention_weights,
    merge_heads,
    softmax,
    split_heads,
    uniform_attention,
    which_and_how_much,
)
from purchase_predictor.model.session import SessionLayer

BINS = [torch.tensor([0.0, 1.0, 2.0, 10.0]), torch.tensor([-5.0, 5.0])]


def before_and_after(*, uniform: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What a causal layer makes of six events, and of the same with the last two changed."""
    torch.manual_seed(0)
    layer = SessionLayer(d_model=8, n_heads=2, dropout=0.0).eval()
    x, stretch = torch.randn(1, 6, 8), torch.ones(1, 6, 1)
    changed = x.clone()
    changed[:, 4:] = 100.0
    with uniform_attention() if uniform else nullcontext():
        return layer(x, stretch), layer(changed, stretch)


@pytest.mark.parametrize("uniform", [False, True])
def test_causal_layer_never_sees_what_comes_later(uniform: bool) -> None:
    before, after = before_and_after(uniform=uniform)
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_session_layer_biases_distance_and_other_sessions() -> None:
    torch.manual_seed(0)
    layer = SessionLayer(d_model=8, n_heads=2, dropout=0.0).eval()
    torch.nn.init.normal_(layer.distance)
    torch.nn.init.normal_(layer.other_session)
    x = torch.randn(2, 5, 8)
    session = torch.tensor([[0, 1, 1, 2, 2], [0, 1, 2, 3, 3]])

    # the same in plain words: scores, a bias for each pair of events, the future masked
    q, k, v = (split_heads(p, 2) for p in layer.qkv(layer.norm(x)).chunk(3, dim=-1))
    place = torch.arange(5)
    other = (session[:, :, None] != session[:, None, :]).float()
    bias = layer.distance[(place[:, None] - place).clamp_min(0)].permute(2, 0, 1)
    bias = bias + other[:, None] * layer.other_session[:, None, None]
    visible = place[:, None] >= place
    weights, amounts = which_and_how_much(q @ k.transpose(-1, -2) / 2, bias, visible)
    y = x + layer.out(merge_heads(torch.cat([weights @ v, amounts @ v], dim=-1)))
    expected = y + layer.feed_forward(layer.feed_forward_norm(y))

    found = layer(x, torch.nn.functional.one_hot(session).float())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("n_keys", [1, 5, 15, 16, 30])
def test_softmax_of_few_keys_is_the_same_softmax(n_keys: int) -> None:
    scores = torch.randn(3, 2, 4, n_keys, requires_grad=True)
    hidden = torch.rand(scores.shape) < 0.3
    hidden[..., 0] = False
    plain = scores.detach().clone().requires_grad_()
    weighed = torch.randn(scores.shape)

    found = softmax(scores.masked_fill(hidden, -torch.inf))
    expected = plain.masked_fill(hidden, -torch.inf).softmax(dim=-1)
    (found * weighed).sum().backward()
    (expected * weighed).sum().backward()

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(scores.grad, plain.grad)


def test_pointwise_weights_count_where_softmax_averages() -> None:
    scores = torch.ones(1, 1, 1, 8)
    none = torch.zeros(1, 2, 1, 1)
    few, many = torch.arange(8) < 2, torch.arange(8) < 6

    weights_few, amounts_few = which_and_how_much(scores, none, few)
    weights_many, amounts_many = which_and_how_much(scores, none, many)

    assert weights_few.sum() == pytest.approx(weights_many.sum()) == pytest.approx(1.0)
    assert amounts_many.sum() == pytest.approx(3 * amounts_few.sum())


def test_uniform_attention_changes_what_a_session_layer_reads() -> None:
    (own, _), (alike, _) = (before_and_after(uniform=uniform) for uniform in (False, True))
    torch.testing.assert_close(own[:, 0], alike[:, 0])  # one event can be looked at
    assert not torch.allclose(own[:, 1:], alike[:, 1:])


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_uniform_attention_weighs_what_is_visible_alike_and_counts_as_before(
    kind: torch.dtype,
) -> None:
    torch.manual_seed(0)
    scores, bias = torch.randn(2, 3, 4, 8), torch.randn(2, 6, 4, 8)
    visible = (torch.arange(8) < 5).to(kind)

    _, counted = which_and_how_much(scores, bias, visible)
    with uniform_attention():
        weights, amounts = which_and_how_much(scores, bias, visible)
        plain = attention_weights(scores, visible)
    torch.testing.assert_close(weights, (visible * 0.2).expand_as(weights).float())
    torch.testing.assert_close(plain, weights)
    torch.testing.assert_close(amounts, counted)
    again, _ = which_and_how_much(scores, bias, visible)
    assert again[..., :5].std() > 0.01  # only inside


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.25)
    x = torch.ones(300, 400)

    out, again = dropout(x), dropout(x)

    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    assert not torch.equal(out, again)
    assert torch.equal(dropout.eval()(x), x)


def test_missing_number_is_its_own_embedding_not_a_value() -> None:
    torch.manual_seed(0)
    embed = NumberEmbeddings(bins=BINS, d_number=4)
    x = torch.tensor([[float("nan"), 0.0], [0.0, 0.0]])

    out = embed(x)

    assert out.isfinite().all()
    assert torch.equal(out[0, 0], embed.missing[0])
    assert not torch.allclose(out[0, 0], out[1, 0])


def test_no_number_gives_no_number_away() -> None:
    embed = NumberEmbeddings(bins=[torch.tensor([0.0, 1.0, torch.inf]), BINS[1]], d_number=4)
    assert embed(torch.tensor([[float("inf"), 1.0]])).isfinite().all()


def test_masked_number_equals_missing_number() -> None:
    embed = NumberEmbeddings(bins=BINS, d_number=4)
    x = torch.tensor([[3.0, 1.0]])
    masked = embed(x, torch.tensor([[True, False]]))
    missing = embed(torch.tensor([[float("nan"), 1.0]]))
    assert torch.equal(masked, missing)


def test_number_outside_the_training_range_counts_as_its_end() -> None:
    embed = NumberEmbeddings(bins=BINS, d_number=4)
    far = embed(torch.tensor([[1e9, -float("inf")]]))
    end = embed(torch.tensor([[10.0, -5.0]]))
    assert torch.allclose(far, end)


def test_market_norm_begins_the_same_for_every_market() -> None:
    norm = MarketNorm(d_model=8)
    x = torch.randn(2, 3, 8)
    assert torch.equal(norm(x, torch.randn(2, 8)), norm(x, torch.zeros(2, 8)))


def test_ensemble_members_differ() -> None:
    torch.manual_seed(0)
    head = EnsembleHead(d_in=6, d_hidden=8, d_member=5, n_members=4, dropout=0.0)
    x = torch.randn(5, 6)

    logits = head(x)

    assert logits.shape == (5, 4)
    assert logits.std(dim=1).min() > 0


def test_ensemble_begins_near_the_rate() -> None:
    torch.manual_seed(0)
    head = EnsembleHead(d_in=6, d_hidden=8, d_member=5, n_members=4, dropout=0.0)
    x = torch.randn(200, 6)
    spread = head(x).std()
    head.start_from_rate(0.03)

    assert head(x).sigmoid().mean().item() == pytest.approx(0.03, abs=0.003)
    assert 0 < head(x).std() < spread / 5
