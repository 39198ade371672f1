"""Whether a phrase in the picture is credited to the picture, and one in the title to the title.

    python -m benchmarks.crediting --model runs/effects/model --data data/claims-0 --output F.json

On the sample marketplace a phrase may stand in the title, be drawn into the picture as a badge, or
both. Offers whose phrases were assigned at random are explained (exact Shapley values over
modalities, as `explain` gives them): what title and picture contribute to a listing that shows the
phrase in the one, less what they contribute to one that shows it in neither. Listings are what is
independent: each counts once, by the mean over its impressions; Welch's interval, averaged over
the markets in which the planted effect of the phrase is `LARGE` or more.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.effects import LARGE
from purchase_predictor.attribution.contributions import ROWS_AT_ONCE, Contributions
from purchase_predictor.attribution.shapley import MODALITIES, shapley_weights, subset_logits
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import UserError
from purchase_predictor.explaining_job import levers_of
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.training.batches import Batcher

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
    random = asked.tables.impressions.select("row", "randomised")
    row = random.filter(pl.col("randomised").fill_null(value=False))["row"].to_numpy()
    sample = asked.data.select(np.isin(asked.data.row, row))
    own = Contributions.of_systems(
        predictor.panel_.systems_, predictor.preparation_, asked.tables, sample
    )
    values = np.empty((len(sample), len(MODALITIES)))
    for places, batch in Batcher(own.data, batch_size=ROWS_AT_ONCE).scoring_batches():
        values[places] = subset_logits(own.model, batch) @ shapley_weights(len(MODALITIES)).T
    listing = np.asarray(asked.tables.products["product_id"].to_list())[sample.product - 1]
    frame = pl.DataFrame({"product_id": listing, "market": sample.market_label.astype(str)})
    credit = {name: values[:, place] for name, place in CREDITED.items()}
    return frame.with_columns(**credit).group_by("product_id", "market").mean()


def difference(
    shown: NDArray[np.float64], neither: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Difference of two means over listings and its standard error; None of too few."""
    if min(len(shown), len(neither)) < MIN_LISTINGS:
        return None
    error = np.sqrt(sum(x.var(ddof=1) / len(x) for x in (shown, neither)))
    return float(shown.mean() - neither.mean()), float(error)


def credits(listings: pl.DataFrame, truth: Path) -> list[dict[str, Any]]:
    """What title and picture are credited with, by phrase and by where it is shown.

    Args:
        listings: of `explained`.
        truth: folder with `products.parquet` and `effects.json`.
    """
    made = pl.read_parquet(truth / "products.parquet")
    planted = json.loads((truth / "effects.json").read_text("utf-8"))
    both = listings.join(made, on="product_id")
    rows = []
    for phrase in PHRASES:
        markets = [m for m, of in planted.items() if of["phrase"][phrase] >= LARGE]
        if not markets:
            continue
        for where, (in_title, in_picture) in SHOWN.items():
            groups = [
                both.filter(
                    (pl.col("market") == market)
                    & (pl.col(f"phrase_{phrase}") == title)
                    & (pl.col(f"badge_{phrase}") == picture)
                )
                for market in markets
                for title, picture in ((in_title, in_picture), (False, False))
            ]
            row: dict[str, Any] = {"phrase": phrase, "shown in": where, "markets": len(markets)}
            key = "phrase" if where == "title" else "image"
            row["planted"] = float(np.mean([planted[m][key][phrase] for m in markets]))
            row["listings"] = sum(map(len, groups[::2]))
            for credited in CREDITED:
                pairs = zip(groups[::2], groups[1::2], strict=True)
                found = [difference(*(g[credited].to_numpy() for g in pair)) for pair in pairs]
                row[credited] = averaged([one for one in found if one is not None])
            rows.append(row)
    return rows


def averaged(found: list[tuple[float, float]]) -> list[float]:
    """Mean of independent differences with its interval; NaN of none."""
    if not found:
        return [float("nan")] * 3
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
        rows = credits(explained(options.model, options.data), options.data / "truth")
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
            f"{row['phrase']}, {row['shown in']} ({row['markets']} markets, {row['listings']} "
            f"listings): planted {row['planted']:+.3f}; {credit}"
        )
    options.output.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
