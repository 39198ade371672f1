"""The sample marketplace: a shop in nine countries whose true probabilities are known.

Made from a seed, with pictures and titles in the market's own language. It serves a first run
without a download and, being known, as the ground truth for effects and for the distance to the
best possible model; it never stands in for real data in a claim of quality.
"""

from purchase_predictor.data.marketplace.world import SampleSize
from purchase_predictor.data.marketplace.writing import SampleSummary, write_sample

__all__ = ["SampleSize", "SampleSummary", "write_sample"]
