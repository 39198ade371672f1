"""What answers best in a market whose rows cannot stop training: network, readout or both.

    python -m benchmarks.unstopped --data data/sample-11 data/sample-12 --output unstopped.json

In each world a model of all markets gives its weights of readout and network and the trees of its
LightGBM. Each small market (from the fewest conversions that train a model to `--at-most`) then
has a local model as `compare` fits it where nothing can stop it, whether its own rows could or
not, and its test rows are ranked by the network alone, by the readout alone, by both with the
weights of the model of all markets, and by LightGBM. What such a market answers with was chosen
on worlds that no published comparison is made on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.table import markdown
from features.arrays import TEST, TRAIN
from features.schema import Tables, load_tables
from purchase_predictor.checkpoint import write_json
from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.metrics import auc
from purchase_predictor.fitting import rounds_of
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import Settings, load_settings
from purchase_predictor.training.batches import SCORING_ROWS, Batcher
from purchase_predictor.training.conversion import mean_logits
from purchase_predictor.training.readout import read_out
from purchase_predictor.training.selection import split_by

AT_MOST = 16


def small_markets(tables: Tables, settings: Settings, at_most: int) -> dict[str, int]:
    """Markets of few training conversions, and how many they have."""
    training = tables.impressions.filter(pl.Series(split_by(tables, settings).part == TRAIN))
    counted = training.group_by("market").agg(pl.col("converted").sum()).sort("market")
    fewest = settings.data.min_conversions
    return {market: n for market, n in counted.iter_rows() if fewest <= n <= at_most}


def ranked(
    market: str, tables: Tables, settings: Settings, everyone: PurchasePredictor
) -> dict[str, Any]:
    """AUC in the market's test rows of what its local model could answer with.

    Args:
        market: whose model is fitted.
        tables: checked, of all markets.
        settings: of both models.
        everyone: of all markets.
    """
    content = everyone.preparation_.content_
    local = PurchasePredictor(settings, market=market)
    local.fit(tables, content=content, rounds=rounds_of(everyone.panel_.systems_))
    data = local.data_.select(local.data_.part == TEST)
    fusion = local.fitted_.fusion
    rows = fusion.columns_of(data)
    model = fusion.model_.cpu().eval()
    batches = Batcher(rows, batch_size=SCORING_ROWS)
    network = mean_logits(model, batches, torch.device("cpu"), network_only=True)
    readout = read_out(model.readout, rows)
    of_readout, of_network, _ = everyone.fitted_.fusion.model_.weights.tolist()
    trees = local.panel_.systems_["lightgbm"].predict_proba(data)
    answers = {
        "network": network,
        "readout": readout,
        "both": of_readout * readout + of_network * network,
        "lightgbm": trees,
    }
    y = data.converted
    aucs = {name: float(auc(y, values)) for name, values in answers.items()}
    return {"market": market, "n_test_positive": int(y.sum()), **aucs}


def main() -> None:
    """Fit, rank, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders")
    parser.add_argument("--at-most", type=int, default=AT_MOST, help="training conversions")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    sets = ["baselines.systems=[lightgbm]", "data.min_conversions=5", "training.refit=false"]
    settings = load_settings(None, [*sets, *options.set])
    found: list[dict[str, Any]] = []
    for folder in options.data:
        tables = load_tables(folder)
        everyone = PurchasePredictor(settings).fit(tables)
        for market, n in small_markets(tables, settings, options.at_most).items():
            try:
                one = ranked(market, tables, settings, everyone)
            except DataError as error:  # one user alone to calibrate on, for example
                print(f"{folder.name}: no local model of {market}: {error}", file=sys.stderr)
                continue
            found.append({"data": folder.name, "n_train_positive": n, **one})
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
            write_json(options.output, found)
    names = ("network", "readout", "both", "lightgbm")
    heads = ["data", "market", "conversions", "in test", *names]
    rows = [
        [one["data"], one["market"], str(one["n_train_positive"]), str(one["n_test_positive"])]
        + [f"{one[name]:.3f}" for name in names]
        for one in found
    ]
    means = [f"{np.mean([one[name] for one in found]):.3f}" for name in names] if found else []
    print(markdown(heads, [*rows, ["mean", "", "", "", *means]] if found else rows))


if __name__ == "__main__":
    main()
