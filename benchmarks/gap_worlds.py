"""Small worlds of markets whose true probabilities are known: what `gap_coverage.py` repeats.

A world has four markets. A shopper has a mean of every number and a taste that no column tells
(standard deviation 0.7 in log-odds); an impression scatters about the shopper's means, so rows of
one shopper are alike and shoppers are what must be resampled. The log-odds of a conversion are
linear in six numbers, with weights that a market shares with the others but for a deviation of
its own, and a product of two numbers whose weight is the market's own. About 6 % convert. The
package's LightGBM learns from all markets (`global`) and from each (`local`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from features.arrays import (
    MISSING,
    N_RESERVED,
    PAD,
    STOP,
    TEST,
    TRAIN,
    UNSEEN,
    Column,
    EncodedMarket,
    EventArrays,
    ProductArrays,
)
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.comparison.arms import PRIMARY
from purchase_predictor.evaluation.metrics import entropy, row_log_loss
from purchase_predictor.settings import Settings

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

N_NUMBERS = 6
BASE = -3.6
"""Log-odds where every number is zero."""

STOP_SHARE = 0.15
"""Share of the shoppers before the test on whom training stops."""


@dataclass(frozen=True)
class Size:
    """Shoppers of a market, each with four impressions on average.

    Attributes:
        n_train: before the test, those on whom training stops included.
        n_test: in the test.
    """

    n_train: int
    n_test: int


SIZES = {"A": Size(6000, 2000), "B": Size(1500, 1000), "C": Size(500, 500), "D": Size(250, 250)}
"""About 500, 250, 125 and 60 test conversions."""

KNOWN_TIMES = 10
"""As many more shoppers than in the test on whom the true gap is measured; that their conversions
are known as probabilities takes most of what is left of chance off."""


@dataclass(frozen=True)
class Impressions:
    """Rows of a world.

    Attributes:
        x: float32 [n, 6].
        market: int64 [n], places in `SIZES`.
        unit: int64 [n], the shopper.
        p: float64 [n], true probability of a conversion, the shopper's taste included.
        y: bool [n].
        part: int8 [n].
    """

    x: NDArray[np.float32]
    market: Codes
    unit: Codes
    p: Floats
    y: NDArray[np.bool_]
    part: NDArray[np.int8]

    def select(self, rows: NDArray[np.bool_]) -> "Impressions":
        """Those rows where `rows` holds."""
        return Impressions(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class World:
    """What decides conversions.

    Attributes:
        weights: float64 [4, 6], of the numbers in each market.
        product: float64 [4], weight of the first number times the second.
        level: float64 [4], log-odds where all is zero.
    """

    weights: Floats
    product: Floats
    level: Floats

    @classmethod
    def draw(cls, generator: np.random.Generator) -> "World":
        """A world at random."""
        n = len(SIZES)
        common = generator.normal(0, 0.5, N_NUMBERS)
        return cls(
            weights=common + generator.normal(0, 0.25, (n, N_NUMBERS)),
            product=generator.normal(0.3, 0.2, n),
            level=BASE + generator.normal(0, 0.2, n),
        )

    def impressions(
        self, generator: np.random.Generator, shoppers: Sequence[tuple[int, int, int]]
    ) -> Impressions:
        """Shoppers and what they are shown.

        Args:
            generator: of everything.
            shoppers: (place of the market, part, how many).
        """
        counts = [n for _, _, n in shoppers]
        market = np.repeat([place for place, _, _ in shoppers], counts)
        part = np.repeat([part for _, part, _ in shoppers], counts).astype(np.int8)
        n_units = len(market)
        means = generator.normal(0, np.sqrt(0.5), (n_units, N_NUMBERS))
        taste = generator.normal(0, 0.7, n_units)
        unit = np.repeat(np.arange(n_units), 1 + generator.poisson(3, n_units))
        x = means[unit] + generator.normal(0, np.sqrt(0.5), (len(unit), N_NUMBERS))
        of = market[unit]
        logit = self.level[of] + (x * self.weights[of]).sum(1) + taste[unit]
        p = expit(logit + self.product[of] * x[:, 0] * x[:, 1])
        y = generator.random(len(p)) < p
        return Impressions(x.astype(np.float32), of, unit, p, y, part[unit])


def draw_world(seed: int) -> tuple[Impressions, Impressions]:
    """The rows of a world, and many more of its shoppers to measure the truth on.

    Args:
        seed: of the world.
    """
    generator = np.random.default_rng(seed)
    world = World.draw(generator)
    shoppers = []
    for place, size in enumerate(SIZES.values()):
        n_stop = round(size.n_train * STOP_SHARE)
        shoppers += [(place, TRAIN, size.n_train - n_stop), (place, STOP, n_stop)]
        shoppers.append((place, TEST, size.n_test))
    known = [(place, TEST, KNOWN_TIMES * size.n_test) for place, size in enumerate(SIZES.values())]
    return world.impressions(generator, shoppers), world.impressions(generator, known)


def fit_arms(
    rows: Impressions, scored: Sequence[Impressions], settings: Settings, seed: int
) -> list[dict[str, Floats]]:
    """Learn `global` and `local`, and predict.

    Args:
        rows: with those to learn from.
        scored: rows to predict, each set for itself.
        settings: of LightGBM.
        seed: of LightGBM.

    Returns:
        For each set the probabilities of the arms, float64 [n].
    """
    of_all, own = PRIMARY
    encoded = [encode(part) for part in scored]
    learn = encode(rows.select(rows.part != TEST))
    whole = _fit(learn, settings, seed)
    found = [{of_all: whole.predict_proba(part), own: np.empty(len(part))} for part in encoded]
    for place in range(len(SIZES)):
        alone = _fit(learn.select(learn.market == N_RESERVED + place), settings, seed)
        for part, predicted in zip(encoded, found, strict=True):
            here = part.market == N_RESERVED + place
            predicted[own][here] = alone.predict_proba(part.select(here))
    return found


def _fit(data: EncodedMarket, settings: Settings, seed: int) -> LightGBMSystem:
    system = LightGBMSystem(settings.baselines.lightgbm)
    return system.fit(data, seed=seed, progress=lambda _line: None)


def frame(rows: Impressions, arms: dict[str, Floats]) -> pl.DataFrame:
    """Predictions as `comparison.verdicts` reads them; every row is a list of its own."""
    names = np.array(list(SIZES))
    return pl.DataFrame(
        {
            "impression_id": np.arange(len(rows.y)).astype(str),
            "market": names[rows.market],
            "converted": rows.y,
            "unit": rows.unit,
            "list_number": np.arange(len(rows.y)),
            **arms,
        }
    )


def true_metrics(p: Floats, predicted: Floats) -> dict[str, float]:
    """AUC and normalised entropy in expectation, from known probabilities.

    Every row counts as a conversion with weight p and as none with weight 1 - p.

    Args:
        p: float64 [n], true probabilities.
        predicted: float64 [n].
    """
    n = len(p)
    weight = np.concatenate([p, 1 - p])
    auc = roc_auc_score(np.repeat([1, 0], n), np.tile(predicted, 2), sample_weight=weight)
    lost = p * row_log_loss(np.ones(n), predicted) + (1 - p) * row_log_loss(np.zeros(n), predicted)
    return {"auc": float(auc), "normalised_entropy": float(lost.mean() / entropy(p.mean()))}


def true_gaps(rows: Impressions, arms: dict[str, Floats]) -> dict[str, dict[str, float]]:
    """True gap of the primary contrast in each market: market, metric.

    Args:
        rows: many, with known probabilities.
        arms: their predictions.
    """
    found = {}
    for place, name in enumerate(SIZES):
        here = rows.market == place
        of = [true_metrics(rows.p[here], arms[arm][here]) for arm in PRIMARY]
        found[name] = {metric: of[0][metric] - of[1][metric] for metric in of[0]}
    return found


def encode(rows: Impressions) -> EncodedMarket:
    """The rows as the package's systems read them: no products, no events."""
    n = len(rows.y)
    names = ("", "missing", "unseen", *SIZES)
    profile = np.full((len(names), 0), np.nan, np.float32)
    market = (N_RESERVED + rows.market).astype(np.int32)
    columns = tuple(Column(f"x{place}", "context", "context") for place in range(N_NUMBERS))
    zeros = np.zeros(n, np.int32)
    return EncodedMarket(
        products=_no_products(),
        events=_no_events(),
        sequence_start=np.zeros(1, np.int64),
        sequence_stop=np.zeros(1, np.int64),
        sequence=zeros,
        cut=zeros.astype(np.int64),
        time=np.zeros(n),
        session=rows.unit.astype(np.int32),
        unit=rows.unit,
        unit_fold=np.zeros(1, np.int32),
        list_number=np.arange(n, dtype=np.int32),
        product=zeros,
        market=market,
        profile=profile,
        row_profile=profile[market],
        numbers=rows.x,
        number_columns=columns,
        categories=np.zeros((n, 0), np.int32),
        category_columns=(),
        converted=rows.y.astype(np.float32),
        part=rows.part,
        market_names=names,
        market_label=np.array(names, object)[market],
        impression_id=np.arange(n).astype(str).astype(object),
        row=np.arange(n),
    )


def _no_products() -> ProductArrays:
    none = np.zeros((1, 0), np.float32)
    return ProductArrays(
        product_id=np.array([None], object),
        identity=np.array([UNSEEN], np.int32),
        category=np.array([MISSING], np.int32),
        brand=np.array([MISSING], np.int32),
        phrases=none,
        phrase_names=(),
        picture_phrases=none,
        picture_phrase_names=(),
        words=np.full((1, 0), PAD, np.int32),
        text=none,
        image=none,
        has_text=np.zeros(1, bool),
        has_image=np.zeros(1, bool),
        price_level=np.full(1, np.nan, np.float32),
    )


def _no_events() -> EventArrays:
    none = np.zeros(0, np.int32)
    return EventArrays(
        product=none,
        event_type=none,
        time=np.zeros(0),
        log_gap=np.zeros(0, np.float32),
        session=none,
        unit=none,
        part=none.astype(np.int8),
        market=none,
        n_types=N_RESERVED,
    )
