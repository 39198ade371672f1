import pytest
import torch

from purchase_predictor.model.layers import (
    EncoderLayer,
    EnsembleHead,
    MarketNorm,
    NumberEmbeddings,
    SelfAttention,
)

BINS = [torch.tensor([0.0, 1.0, 2.0, 10.0]), torch.tensor([-5.0, 5.0])]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_the_same_with_and_without_weights(causal: bool) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(d_model=8, n_heads=2, causal=causal).eval()
    x = torch.randn(3, 5, 8)

    quick, none = attention(x)
    slow, weights = attention(x, need_weights=True)

    assert none is None
    assert torch.allclose(quick, slow, atol=1e-6)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2, 5))


def test_causal_layer_never_sees_what_comes_later() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(d_model=8, n_heads=2, dropout=0.0, causal=True).eval()
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] = 100.0

    before, after = layer(x), layer(changed)

    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of n_heads"):
        SelfAttention(d_model=10, n_heads=4)


def test_missing_number_is_its_own_embedding_not_a_value() -> None:
    torch.manual_seed(0)
    embed = NumberEmbeddings(bins=BINS, d_number=4)
    x = torch.tensor([[float("nan"), 0.0], [0.0, 0.0]])

    out = embed(x)

    assert out.isfinite().all()
    assert torch.equal(out[0, 0], embed.missing[0])
    assert not torch.allclose(out[0, 0], out[1, 0])


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
    head = EnsembleHead(d_in=6, d_hidden=8, n_members=4, dropout=0.0)
    logits = head(torch.randn(5, 6))
    assert logits.shape == (5, 4)
    assert logits.std(dim=1).min() > 0
