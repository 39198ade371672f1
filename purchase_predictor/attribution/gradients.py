"""Integrated gradients of the fusion over words, picture, columns and events (captum).

A gate for each token leads it from missing (0) to what it is (1): embeddings in a straight line
from the model's learned missing token, words and events from absent to present in attention. At
gates of 0 the network is in the very state that it is in where all but the market is masked, so
both ends of the path are states that it was trained in. Integrated gradients over the gates are
those over the embeddings (Sundararajan et al., arXiv 1703.01365), summed over their width. Events
are tokens as the session encoder has read them, the earlier ones in mind.
"""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F  # noqa: N812
from captum.attr import IntegratedGradients
from torch import Tensor

from features.arrays import MISSING
from purchase_predictor.attribution.shapley import masked_batch
from purchase_predictor.attribution.tokens import (
    MARKET_ALONE,
    PATH,
    TITLE,
    TOKEN_OF_PART,
    TokenGrid,
    events_in_sight,
    phrase_token,
    real_words,
)
from purchase_predictor.model.fusion import FusionTransformer, ReaderInputs
from purchase_predictor.model.history import view_history
from purchase_predictor.model.inputs import FusionBatch

N_STEPS = 64
"""Points of the path."""


@dataclass(frozen=True)
class _Ends:
    """A tensor where nothing but the market is known, and as it is."""

    missing: Tensor
    actual: Tensor

    def at(self, gate: Tensor) -> Tensor:
        """In between."""
        return self.missing + gate * (self.actual - self.missing)


class GatedNetwork:
    """The network of the fusion on one batch, as a function of gates of its tokens.

    The others of a list stay as they are shown: what a row's own tokens do to itself is asked.

    Args:
        model: in evaluation mode.
        batch: N impressions, nothing masked.
        grid: tokens of the batch.
        phrase_names: groups of phrases that the model knows.
    """

    def __init__(
        self,
        model: FusionTransformer,
        batch: FusionBatch,
        grid: TokenGrid,
        phrase_names: tuple[str, ...],
    ) -> None:
        self.model, self.batch, self.grid = model, one_by_one(batch), grid
        encoder = model.clicks.product
        self.part_names = encoder.part_names
        n_phrases = batch.products.phrases.shape[1]
        self.phrases = [phrase_token(name) for name in phrase_names[:n_phrases]]
        masked = masked_batch(batch, MARKET_ALONE)
        with torch.no_grad():
            clicks = model.clicks(batch.products, batch.sessions)
            self.market = model.market(batch)
            self.embedded = _Ends(model.columns.embed(masked), model.columns.embed(batch))
            self.parts = _Ends(
                encoder.parts(masked.products).index_select(0, batch.product),
                encoder.parts(batch.products).index_select(0, batch.product),
            )
            self.state = _Ends(
                model.state_before(clicks, masked), model.state_before(clicks, batch)
            )
            self.view = view_history(self.batch)
            # what does not depend on gates is worked out once, not at every step
            self.hidden = clicks.hidden.index_select(0, batch.slot // batch.n_slots)
            self.memories = [
                layer.history.memory(self.hidden, self.view)  # type: ignore[operator, union-attr]
                for layer in model.layers
            ]
        n_columns = self.embedded.actual.shape[1]
        self.columns = [token.name for token in grid.fixed[-1 - n_columns : -1]]
        self.in_sight = events_in_sight(batch)
        self.words = real_words(batch)
        self.has_title = batch.products.has_text.index_select(0, batch.product)
        self.beside: list[Tensor] | None = None
        self.beside = self._beside()

    def __call__(self, gates: Tensor) -> Tensor:
        """The network's logit, mean over its members.

        Args:
            gates: float [N, len(grid)], in [0, 1]; those of tokens that are not there do nothing.

        Returns:
            float [N].
        """
        inputs, _ = self._inputs(gates)
        logits, _ = self.model.read(inputs, self.batch, beside=self.beside, memories=self.memories)
        return logits.mean(dim=1)

    def attention(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Attention weights where all tokens are there, and the logit's gradients by them.

        Returns:
            Twice by name: `product` [N, n_heads, 1, n_parts + 1 + n_words] (between them is "no
            title"), `events.LAYER` in the grid of sequences, `columns.LAYER` [N, n_heads,
            n_readers, n_blocks]. Every row has weights and gradients of its own.
        """
        gates = torch.ones(len(self.batch), len(self.grid), requires_grad=True)
        with torch.enable_grad():
            inputs, to_product = self._inputs(gates)
            logits, weights = self.model.read(
                inputs, self.batch, need_weights=True, beside=self.beside,
                memories=self.memories,
            )  # fmt: skip
            weights = {"product": to_product, **weights}
            total = logits.mean(dim=1).sum()
        found = torch.autograd.grad(total, list(weights.values()))
        return (
            {name: w.detach() for name, w in weights.items()},
            dict(zip(weights, found, strict=True)),
        )

    def _inputs(self, gates: Tensor) -> tuple[ReaderInputs, Tensor]:
        """What the readers start from, and the weights with which the product was read."""
        words, fixed, events = self.grid.split(gates)
        # 1. columns
        gate = torch.stack([fixed[name] for name in self.columns], dim=1)
        keys, values, flat = self.model.columns.read(self.embedded.at(gate[..., None]))
        # 2. the events so far
        present = (events * self.in_sight)[:, None]
        visible = F.pad(present, (1, 0), value=1.0)
        candidate, to_product = self._candidate(words, fixed)
        inputs = ReaderInputs(
            market=self.market,
            column_keys=keys,
            column_values=values,
            flat=flat,
            candidate=candidate,
            state=self.state.at(fixed[PATH][:, None]),
            hidden=self.hidden,
            view=replace(self.view, visible=visible),
        )
        return inputs, to_product

    def _candidate(self, words: Tensor, fixed: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The product as its market sees it, [N, d_model], and the weights of its reading."""
        encoder, reader = self.model.clicks.product, self.model.candidate
        parts = self._parts(fixed)
        tokens, present = parts, torch.ones_like(parts[..., 0])
        if reader.words is not None:
            codes = self.batch.products.words.index_select(0, self.batch.product)
            nothing = reader.words(torch.full_like(codes[:, :1], MISSING))
            tokens = torch.cat([parts, nothing, reader.words(codes)], dim=1)
            shown = words * self.words
            # "no title" comes in as the words go
            share = shown.sum(dim=1) / self.words.sum(dim=1).clamp_min(1)
            share = torch.where(self.words.any(dim=1), share, fixed[TITLE])
            gone = torch.where(self.has_title, 1.0 - share, 1.0)
            present = torch.cat([present, gone[:, None], shown], dim=1)
        return reader.read(tokens, present, encoder.vector(parts), self.market)

    def _parts(self, fixed: dict[str, Tensor]) -> Tensor:
        """Parts of the products, [N, n_parts, d_model]."""
        names = [TOKEN_OF_PART.get(name, TITLE) for name in self.part_names]
        gate = torch.stack([fixed[name] for name in names], dim=1)
        parts = self.parts.at(gate[..., None])
        if "phrases" not in self.part_names:
            return parts
        # that a title is there is the title's, which phrases it holds is each phrase's own
        held = self.batch.products.phrases.index_select(0, self.batch.product)
        held = held * self.has_title[:, None]
        of_phrases = torch.stack([fixed[name] for name in self.phrases], dim=1)
        change = held * (of_phrases - fixed[TITLE][:, None])
        weight: Tensor = self.model.clicks.product.views["phrases"].weight  # type: ignore[assignment]
        place = self.part_names.index("phrases")
        beside = (0, 0, place, len(self.part_names) - 1 - place)
        return parts + F.pad(F.linear(change, weight)[:, None], beside)

    def _beside(self) -> list[Tensor] | None:
        """What each layer's readers of the list are where nothing is missing."""
        if self.batch.list_width == 1:
            return None
        taken: list[Tensor] = []
        hooks = [
            layer.list_attention.register_forward_pre_hook(  # type: ignore[union-attr]
                lambda _module, inputs: taken.append(inputs[0])
            )
            for layer in self.model.layers
        ]
        with torch.no_grad():
            self(torch.ones(len(self.batch), len(self.grid)))
        for hook in hooks:
            hook.remove()
        return taken


def one_by_one(batch: FusionBatch) -> FusionBatch:
    """The batch with a sequence of its own for each impression.

    Encoding a sequence once for all its impressions pays for one pass. Where the same impressions
    are asked again and again, the grid of sequences is mostly empty slots.
    """
    sequence = batch.slot // batch.n_slots
    sessions = replace(
        batch.sessions,
        **{
            field.name: getattr(batch.sessions, field.name).index_select(0, sequence)
            for field in fields(batch.sessions)
        },
    )
    return replace(batch, sessions=sessions, slot=torch.arange(len(batch)), n_slots=1)


def integrated_gradients(network: GatedNetwork, *, n_steps: int = N_STEPS) -> Tensor:
    """Contribution of each token to the network's logit.

    The path is straight but walked as t²: layer norms turn sharply where little is known yet, and
    points at even pace miss what happens there.

    Args:
        network: on a batch of N impressions.
        n_steps: points of the path, at the places of Gauss-Legendre quadrature in t.

    Returns:
        float [N, n_tokens]; their sum is the logit less that of gates of 0, but for the error of
        the quadrature.
    """
    ones = torch.ones(len(network.batch), len(network.grid))

    def walked(pace: Tensor) -> Tensor:
        return network(pace.square())

    return IntegratedGradients(walked, multiply_by_inputs=False).attribute(
        ones, baselines=torch.zeros_like(ones), n_steps=n_steps, internal_batch_size=len(ones)
    )
