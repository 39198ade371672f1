"""A discrete choice model of what shoppers turn to: how well a product suits a shopper's taste.

A shopper turns to a product with the probability of a multinomial logit (McFadden) over all that
the market sells at that time: utility is the product's popularity plus taste times vector. Vectors
are linear in what can be seen of a product and in its usual price, never in its identity, so new
products have one. Tastes differ as those of a latent class logit (Kamakura and Russell, Journal of
Marketing Research 26, 1989): a shopper is of one of many classes, and which one is told by Bayes'
rule from what they turned to before. With many classes that is no claim that shoppers come in
kinds: it leaves the distribution of tastes open, where a normal one would fix it.

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
        n_sold: int64 [E], alternatives that the market had seen by then.
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
    """Log probability of what shoppers with a history turn to.

    **Shape**

    - Input: a `ChoiceBatch` of J alternatives, E events and T of them to tell
    - Output: ``(T,)``

    Args:
        shape: data-dependent sizes.
        rank: dimensions of taste.
        n_classes: of shoppers.
        n_products: rows of the catalogue it learns from; 0 where it only scores.
    """

    def __init__(self, *, shape: FusionShape, rank: int, n_classes: int, n_products: int = 0):
        super().__init__()
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
        self.price = nn.Parameter(torch.empty(rank).normal_(std=INITIAL_SCALE))
        self.popularity = nn.Parameter(torch.zeros(n_products))
        self.tastes = nn.Parameter(torch.randn(n_classes, rank))
        self.share = nn.Parameter(torch.zeros(n_classes))
        self.event_weight = nn.Parameter(torch.zeros(shape.n_event_types))
        # of the classes' utilities among the market's products (`settle`)
        self.register_buffer("log_total", torch.zeros(shape.n_markets, n_classes))
        self.register_buffer("centre", torch.zeros(shape.n_markets, n_classes))
        self.register_buffer("priced", torch.zeros((), dtype=torch.bool))
        self.log_total: Tensor
        self.centre: Tensor
        self.priced: Tensor

    @property
    def log_share(self) -> Tensor:
        """Log probability of each class, float [K]."""
        return self.share.log_softmax(dim=0)

    def measure(self, products: ProductBatch) -> None:
        """Take from some products the embeddings' mean and scale, and whether prices are known."""
        self.priced.copy_((~products.price_level.isnan()).any())
        for name in self.views:
            seen = getattr(products, name)[getattr(products, f"has_{name}")]
            if len(seen) > 1:
                getattr(self, f"{name}_mean").copy_(seen.mean(dim=0))
                scale = (seen.std(dim=0) + 1e-6) * seen.shape[1] ** 0.5
                getattr(self, f"{name}_scale").copy_(scale)

    def vectors(self, products: ProductBatch) -> Tensor:
        """What taste is multiplied with, float [P, rank]; a price not known counts as usual."""
        total = self.category(products.category)
        for name, view in self.views.items():
            x = getattr(products, name) - getattr(self, f"{name}_mean")
            x = self.dropout(x / getattr(self, f"{name}_scale"))
            total = total + view(x) * getattr(products, f"has_{name}")[:, None]
        return total + products.price_level.nan_to_num(0.0)[:, None] * self.price

    def totals(self, utility: Tensor, popularity: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the sum of the weights of a market's products, and their mean utility, by class.

        Args:
            utility: float [J, K], of taste alone.
            popularity: float [J].

        Returns:
            float [K] each; the mean is over products as often as they are turned to.
        """
        log_total = (utility + popularity[:, None]).logsumexp(dim=0)
        return log_total, popularity.softmax(dim=0) @ utility

    def evidence(self, chosen: Tensor, liked: Tensor, event_type: Tensor, turns: Tensor) -> Tensor:
        """What events say for each class, float [E, K].

        Args:
            chosen: float [E, K], log probability of turning to the product, up to what is the
                same for every class.
            liked: float [E, K], its utility beyond the average.
            event_type: int64 [E]; how much an event of a type tells of liking is learned.
            turns: float [E], 1 where the event before was on another product.
        """
        weight = self.event_weight.index_select(0, event_type)
        return turns[:, None] * chosen + weight[:, None] * liked

    def forward(self, batch: ChoiceBatch) -> Tensor:
        """Follow the shoppers, and tell each time what comes next."""
        popularity = self.popularity.index_select(0, batch.row) - batch.log_chance
        utility = self.vectors(batch.products) @ self.tastes.T
        weight = utility + popularity[:, None]
        liked = (utility - popularity.softmax(dim=0) @ utility).index_select(0, batch.event)
        # what was turned to was there, whenever training first saw it
        n_sold = torch.maximum(batch.n_sold, batch.event + 1)
        log_total = weight.logcumsumexp(dim=0).index_select(0, n_sold - 1)
        chosen = weight.index_select(0, batch.event) - log_total
        evidence = self.evidence(chosen, liked, batch.event_type, batch.turns)
        before = sum_between(evidence, batch.opens, batch.target)
        belief = (before + self.log_share).log_softmax(dim=1)
        return (belief + chosen.index_select(0, batch.target)).logsumexp(dim=1)

    def penalty(self) -> Tensor:
        """Sum of the squared weights of categories and embeddings, which are many."""
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
