from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from purchase_predictor.data.marketplace import write_sample
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.encoders.image import ImageEncoder, untrained_network
from purchase_predictor.encoders.text import small_text_encoder
from purchase_predictor.settings import load_settings


def quiet(_line: str) -> None:
    pass


def recall_at_1(vectors: NDArray[np.float32], groups: NDArray[np.object_]) -> float:
    """Share of listings whose nearest other listing is the same product."""
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2.0)
    return float((groups[cosine.argmax(1)] == groups).mean())


@pytest.mark.slow
def test_training_helps_on_match_groups_never_seen(tmp_path: Path) -> None:
    write_sample(tmp_path, size="demo", seed=5)
    products = pl.read_parquet(tmp_path / "products.parquet")
    groups = products["match_group"].unique(maintain_order=True)
    held_out = groups.sample(fraction=0.3, seed=0, shuffle=True)
    training = ~products["match_group"].is_in(held_out.implode()).to_numpy()
    settings = load_settings(None, ["encoders.cache=''"])
    encoders = ContentEncoders.fit(
        products,
        tmp_path,
        settings.encoders,
        settings.data,
        training=training,
        seed=0,
        progress=quiet,
    )
    assert encoders.words is not None
    cpu, spec = torch.device("cpu"), encoders.images[0].spec
    untrained = ContentEncoders(
        encoders.spec,
        encoders.words,
        [small_text_encoder(encoders.words, "", 0, cpu)],
        [ImageEncoder(spec, untrained_network(spec, 0), cpu)],
    )
    unseen = products.filter(pl.Series(~training))
    truth = unseen["match_group"].to_numpy()

    after, before = encoders.encode(unseen, tmp_path), untrained.encode(unseen, tmp_path)

    assert recall_at_1(after.text, truth) > recall_at_1(before.text, truth) + 0.15
    assert recall_at_1(after.image, truth) > recall_at_1(before.image, truth) + 0.15
