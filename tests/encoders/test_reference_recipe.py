"""The encoders that configs/match-shopee.yaml names, with random weights and few layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from purchase_predictor.encoders.arcface import ArcFaceRecipe
from purchase_predictor.encoders.image import ImageNetwork, ImageSpec
from purchase_predictor.encoders.learning import train_arcface
from purchase_predictor.encoders.text import TextNetwork
from purchase_predictor.settings import load_match_settings

FILE = Path(__file__).parents[2] / "configs" / "match-shopee.yaml"
RECIPE = yaml.safe_load(FILE.read_text("utf-8"))
TRAINING = {
    "batch_size", "learning_rate", "margin_start", "margin_end", "scale", "size_exponent",
    "head_factor", "warm_up", "clip_norm", "weight_decay", "precision",
}  # fmt: skip
SMALL = {"vocab_size": 100, "num_hidden_layers": 1}
BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, **SMALL}
LARGE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, **SMALL}
FAMILIES: dict[str, tuple[Any, Any, dict[str, int]]] = {
    "xlm-roberta-large": (XLMRobertaModel, XLMRobertaConfig, LARGE),
    "xlm-roberta-base": (XLMRobertaModel, XLMRobertaConfig, BASE),
    "cahya/bert-base-indonesian-1.5G": (BertModel, BertConfig, BASE),
    "indobenchmark/indobert-large-p1": (BertModel, BertConfig, LARGE),
    "bert-base-multilingual-uncased": (BertModel, BertConfig, BASE),
}
LABELS = np.array([0, 0, 1, 1])


def recipe(view: str) -> ArcFaceRecipe:
    """One step of the recipe: four listings are one batch."""
    values = {key: RECIPE[view][key] for key in TRAINING}
    return ArcFaceRecipe(epochs=1, **values, cutmix=RECIPE[view].get("cutmix", 0.0))


def step(network: torch.nn.Module, batch: Any, view: str, d: int) -> list[str]:
    lines: list[str] = []
    train_arcface(
        network,
        lambda _rows, _generator: batch,
        LABELS,
        recipe(view),
        d_embedding=d,
        seed=0,
        name="it",
        progress=lines.append,
    )
    return lines


@pytest.mark.parametrize("name", RECIPE["text"]["encoders"])
def test_each_title_encoder_takes_a_step(name: str) -> None:
    model, config, shape = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = model(config(**shape), add_pooling_layer=False)
    network = TextNetwork(transformer, neck=True)
    before = transformer.encoder.layer[0].output.dense.weight.detach().clone()
    ids = torch.arange(5, 29).reshape(4, 6)

    lines = step(network, {"input_ids": ids, "attention_mask": ids * 0 + 1}, "text", network.d)

    after = transformer.encoder.layer[0].output.dense.weight
    assert network.d == shape["hidden_size"]
    assert lines[0].startswith("it: epoch 1/1, loss")
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)


@pytest.mark.parametrize("name", sorted(set(RECIPE["image"]["encoders"])))
def test_each_image_encoder_takes_a_step(name: str) -> None:
    spec = ImageSpec(name, {"depths": [1, 1, 1, 1]}, size=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ImageNetwork(spec)
    before = network.backbone.stem.conv1.weight.detach().clone()
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)

    lines = step(network, pixels, "image", network.d)

    after = network.backbone.stem.conv1.weight
    assert network.d == 3072
    assert lines[0].startswith("it: epoch 1/1, loss")
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)


def test_the_recipe_lies_over_the_settings_of_match_and_is_the_references() -> None:
    settings = load_match_settings(FILE)

    image, text = settings.image, settings.text
    assert image.encoders == ["eca_nfnet_l1"] * 2
    assert set(text.encoders) == set(FAMILIES)
    assert (image.margin_start, image.margin_end, image.size_exponent) == (0.2, 1.0, 0.1)
    assert (text.margin_start, text.margin_end, text.size_exponent) == (0.2, 0.8, 0.2)
    assert (image.cutmix, image.scale, text.scale) == (0.1, 30.0, 30.0)
    assert min(image.head_factor, text.head_factor) > 1


def test_every_key_has_a_sentence_above_it() -> None:
    lines = FILE.read_text("utf-8").splitlines()

    keys = [n for n, line in enumerate(lines) if line.startswith("  ") and line[2].isalpha()]
    assert keys
    assert all(lines[number - 1].startswith("  # ") for number in keys)
