"""A discrete choice model of what shoppers turn to: how well a product suits a shopper's taste.

A shopper turns to a product with the probability of a multinomial logit (McFadden) over all that
the market sells at that time: utility is the product's popularity plus taste times vector. Vectors
are linear in what can be seen of a product, never in its identity, so new products have one. Taste
is the shopper's own, normally distributed over shoppers, and is never a parameter: it is one
Newton step from the average shopper up the posterior given what was turned to before.

It has a few thousand weights, where the click encoder of the fusion has a hundred thousand: some
hundred thousand clicks determine them, and what is learned of one product holds for another.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from purchase_predictor.model.inputs import FusionShape, ProductBatch, TensorRecord
from purchase_predictor.model.layers import Dropout

VIEWS = ("image", "text")
INITIAL_SCALE = 0.3
VIEW_DROPOUT = 0.3
"""Of the numbers of an embedding: some thousand products could be learned by heart."""


@dataclass(frozen=True)
class ChoiceBatch(TensorRecord):
    """What some shoppers of one market turned to, and what they could have turned to.

    Attributes:
        products: the J alternatives, in the order in which they were first seen.
        row: int64 [J], rows of the catalogue.
        log_chance: float32 [J], log probability that an alternative is in the batch at all.
        event: int64 [E], alternatives that events were on, shopper by shopper in time.
        event_type: int64 [E].
        turns: float32 [E], 1 where the event before was on another product.
        target: int64 [T], places of the events that are to be told.
        opens: int64 [T], place of the first event of the shopper of each of them.
        n_sold: int64 [T], alternatives that the market had seen by then.
    """

    products: ProductBatch
    row: Tensor
    log_chance: Tensor
    event: Tensor
    event_type: Tensor
    turns: Tensor
    target: Tensor
    opens: Tensor
    n_sold: Tensor


class ChoiceModel(nn.Module):
    """Utilities of alternatives for shoppers with a history.

    **Shape**

    - Input: a `ChoiceBatch` of J alternatives and T events to tell
    - Output: ``(T, J)``, minus infinity for what was not yet sold

    Args:
        shape: data-dependent sizes.
        rank: dimensions of taste.
        n_products: rows of the catalogue it learns from; 0 where it only scores.
    """

    def __init__(self, *, shape: FusionShape, rank: int, n_products: int = 0):
        super().__init__()
        self.rank = rank
        widths = {"image": shape.d_image, "text": shape.d_text}
        self.views = nn.ModuleDict()
        for name in VIEWS:
            if widths[name]:
                view = nn.Linear(widths[name], rank, bias=False)
                nn.init.normal_(view.weight, std=INITIAL_SCALE)
                self.views[name] = view
                # measured, not learned (`measure`)
                self.register_buffer(f"{name}_mean", torch.zeros(widths[name]))
                self.register_buffer(f"{name}_scale", torch.ones(widths[name]))
        self.dropout = Dropout(VIEW_DROPOUT)
        self.category = nn.Embedding(shape.n_categories, rank)
        nn.init.normal_(self.category.weight, std=INITIAL_SCALE)
        self.popularity = nn.Parameter(torch.zeros(n_products))
        self.log_prior = nn.Parameter(torch.ones(()))
        self.event_weight = nn.Parameter(torch.zeros(shape.n_event_types))
        self.rotation = nn.Parameter(torch.eye(rank))
        # of the market's products as often as they are turned to (`settle`)
        self.register_buffer("mean", torch.zeros(shape.n_markets, rank))
        self.register_buffer("covariance", torch.eye(rank).repeat(shape.n_markets, 1, 1))
        self.mean: Tensor
        self.covariance: Tensor

    def measure(self, products: ProductBatch) -> None:
        """Take mean and scale of the embeddings of pictures and titles from some products."""
        for name in self.views:
            seen = getattr(products, name)[getattr(products, f"has_{name}")]
            if len(seen) > 1:
                getattr(self, f"{name}_mean").copy_(seen.mean(dim=0))
                scale = (seen.std(dim=0) + 1e-6) * seen.shape[1] ** 0.5
                getattr(self, f"{name}_scale").copy_(scale)

    def vectors(self, products: ProductBatch) -> Tensor:
        """What taste is multiplied with, float [P, rank]."""
        total = self.category(products.category)
        for name, view in self.views.items():
            x = getattr(products, name) - getattr(self, f"{name}_mean")
            x = self.dropout(x / getattr(self, f"{name}_scale"))
            total = total + view(x) * getattr(products, f"has_{name}")[:, None]
        return total

    def moments(self, vectors: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [rank] and covariance [rank, rank] of vectors as often as they are turned to."""
        weight = log_weight.softmax(dim=0)
        mean = weight @ vectors
        centred = vectors - mean
        return mean, (centred * weight[:, None]).T @ centred

    def evidence(self, event_type: Tensor, turns: Tensor) -> Tensor:
        """What an event weighs, float [E]: 1 for turning to a product, and the type's own."""
        return turns + self.event_weight.index_select(0, event_type)

    def taste(self, total: Tensor, count: Tensor, covariance: Tensor) -> Tensor:
        """Newton's step from the average shopper up the posterior of taste.

        Args:
            total: float [T, rank], weighted sum of vectors less the market's mean.
            count: float [T], how often the shopper turned to a product.
            covariance: float [rank, rank] of the market.

        Returns:
            float [T, rank].
        """
        prior = self.log_prior.exp() * torch.eye(self.rank, device=total.device)
        precision = count[:, None, None] * covariance + prior
        return torch.linalg.solve(precision, total[..., None])[..., 0] @ self.rotation

    def forward(self, batch: ChoiceBatch) -> Tensor:
        """Sum up histories, then weigh every alternative."""
        vectors = self.vectors(batch.products)
        popularity = self.popularity.index_select(0, batch.row) - batch.log_chance
        mean, covariance = self.moments(vectors, popularity)
        deviation = (vectors - mean).index_select(0, batch.event)
        deviation = deviation * self.evidence(batch.event_type, batch.turns)[:, None]
        before = sum_between(deviation, batch.opens, batch.target)
        count = sum_between(batch.turns[:, None], batch.opens, batch.target)[:, 0]
        taste = self.taste(before, count, covariance)
        utility = taste @ vectors.T + popularity
        place = torch.arange(len(batch.row), device=utility.device)
        later = place >= batch.n_sold[:, None]
        # what was turned to was there, whenever training first saw it
        later.scatter_(1, batch.event.index_select(0, batch.target)[:, None], value=False)
        return utility.masked_fill(later, -torch.inf)

    def penalty(self) -> Tensor:
        """Sum of the squared weights that make vectors."""
        weights = [*self.category.parameters(), *self.views.parameters()]
        return torch.stack([weight.square().sum() for weight in weights]).sum()


def sum_between(values: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Sums over stretches of events, which may overlap.

    Args:
        values: float [E, K].
        start: int64 [T], first event of each stretch.
        stop: int64 [T], one past the last; `start` where there is none.

    Returns:
        float [T, K].
    """
    # float64: sums over all events are taken off each other
    total = F.pad(values.double().cumsum(dim=0), (0, 0, 1, 0))
    return (total.index_select(0, stop) - total.index_select(0, start)).to(values.dtype)
