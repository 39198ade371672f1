"""Whether a phrase in the picture is credited to the picture, and one in the title to the title.

    python -m benchmarks.crediting --model runs/effects/model --data data/claims-0 --output F.json

On the sample marketplace a phrase may stand in the title, be drawn into the picture as a badge, or
both. Offers of the test period whose phrases were assigned at random are explained, in the lists
that they were shown in (exact Shapley values over modalities, as `explain` gives them): what title
and picture contribute to a listing that shows the phrase in the one, less what they contribute to
one that shows it in neither. Listings are what is independent: each counts once, by the mean over
its impressions; a normal interval of the average over the markets in which the planted effect of
the phrase is `LARGE` or more and both groups have `MIN_LISTINGS`.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.effects import LARGE
from features.arrays import TEST
from purchase_predictor.attribution.contributions import ROWS_AT_ONCE, Contributions
from purchase_predictor.attribution.shapley import MODALITIES, shapley_weights, subset_logits
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import UserError
from purchase_predictor.explaining_job import levers_of
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.selection import split_by

SHOWN = {"picture": (False, True), "title": (True, False)}
"""Where a phrase is shown: in the title, in the picture."""

CREDITED = {"title": MODALITIES.index("text"), "picture": MODALITIES.index("image")}
PHRASES = ("limited_quantity", "free_shipping", "number_one")
MIN_LISTINGS = 10
CONFIDENCE = 0.95


def explained(model: Path, data: Path) -> pl.DataFrame:
    """Mean Shapley values of each listing whose offers were assigned at random.

    Args:
        model: model folder.
        data: a sample marketplace.

    Returns:
        `product_id, market, title, picture`.
    """
    predictor = PurchasePredictor.load(model)
    asked = levers_of(predictor, data, reporter=Reporter(quiet=True))
    test = split_by(asked.tables, predictor.settings).part == TEST
    chosen = asked.tables.impressions["randomised"].fill_null(value=False).to_numpy() & test
    random = np.isin(asked.data.row, asked.tables.impressions["row"].to_numpy()[chosen])
    # whole lists, since impressions shown together attend to one another
    lists = np.isin(asked.data.list_number, asked.data.list_number[random])
    sample, told = asked.data.select(lists), random[lists]
    own = Contributions.of_systems(
        predictor.panel_.systems_, predictor.preparation_, asked.tables, sample
    )
    values = np.empty((len(sample), len(MODALITIES)))
    for places, batch in Batcher(own.data, batch_size=ROWS_AT_ONCE).scoring_batches():
        values[places] = subset_logits(own.model, batch) @ shapley_weights(len(MODALITIES)).T
    told &= sample.product > 0  # the missing product is no listing
    listing = np.asarray(asked.tables.products["product_id"].to_list())[sample.product[told] - 1]
    market = sample.market_label[told].astype(str)
    frame = pl.DataFrame({"product_id": listing, "market": market})
    credit = {name: values[told, place] for name, place in CREDITED.items()}
    return frame.with_columns(**credit).group_by("product_id", "market").mean()


def credit_of(listings: pl.DataFrame, truth: Path) -> list[dict[str, Any]]:
    """What title and picture are credited with, by phrase and by where it is shown.

    Args:
        listings: of `explained`.
        truth: folder with `products.parquet` and `effects.json`.
    """
    made = pl.read_parquet(truth / "products.parquet")
    planted = json.loads((truth / "effects.json").read_text("utf-8"))
    both = listings.join(made, on="product_id")
    rows = []
    for phrase, (where, shown) in product(PHRASES, SHOWN.items()):
        found, n_listings = {}, 0
        for market, of in planted.items():
            if of["phrase"][phrase] < LARGE:
                continue
            own = both.filter(pl.col("market") == market)
            with_it, without = (
                own.filter(
                    (pl.col(f"phrase_{phrase}") == title) & (pl.col(f"badge_{phrase}") == picture)
                )
                for title, picture in (shown, (False, False))
            )
            if min(len(with_it), len(without)) >= MIN_LISTINGS:
                found[market] = {
                    name: difference(with_it[name].to_numpy(), without[name].to_numpy())
                    for name in CREDITED
                }
                n_listings += len(with_it)
        if found:
            key = "phrase" if where == "title" else "image"
            effect = float(np.mean([planted[market][key][phrase] for market in found]))
            credit = {name: averaged([own[name] for own in found.values()]) for name in CREDITED}
            rows.append(
                {"phrase": phrase, "shown_in": where, "markets": sorted(found),
                 "listings": n_listings, "planted": effect, **credit}
            )  # fmt: skip
    return rows


def difference(shown: NDArray[np.float64], neither: NDArray[np.float64]) -> tuple[float, float]:
    """Difference of two means over listings, and its standard error."""
    error = np.sqrt(sum(x.var(ddof=1) / len(x) for x in (shown, neither)))
    return float(shown.mean() - neither.mean()), float(error)


def averaged(found: list[tuple[float, float]]) -> list[float]:
    """Mean of independent differences with its interval."""
    value, error = np.array(found).T
    mean = float(value.mean())
    reach = float(norm.isf((1 - CONFIDENCE) / 2) * np.sqrt((error**2).sum()) / len(value))
    return [mean, mean - reach, mean + reach]


def main(arguments: list[str] | None = None) -> int:
    """Explain, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--data", type=Path, required=True, help="a sample marketplace")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    try:
        rows = credit_of(explained(options.model, options.data), options.data / "truth")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("phrase, where it is shown: planted; credited to title, to picture (log-odds)")
    for row in rows:
        credit = ", ".join(
            f"{name} {row[name][0]:+.3f} ({row[name][1]:+.3f} to {row[name][2]:+.3f})"
            for name in CREDITED
        )
        print(
            f"{row['phrase']}, {row['shown_in']} ({len(row['markets'])} markets, "
            f"{row['listings']} listings): planted {row['planted']:+.3f}; {credit}"
        )
    options.output.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
