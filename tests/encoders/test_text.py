import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from purchase_predictor.encoders.text import (
    TextEncoder,
    pretrained_text_encoder,
    small_text_encoder,
)
from purchase_predictor.encoders.words import WordPieces
from purchase_predictor.errors import UserError

CPU = torch.device("cpu")
TITLES = ["red shoes", "", "a very long title of red and blue shoes and more", "파란 신발"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "query", ":", "red", "blue", "shoes", "a", "title"]
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]"}


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def words() -> WordPieces:
    return WordPieces.fit(pl.Series(TITLES * 3), 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder of a tiny BERT, its pooler left out as some publishers do."""
    place = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False)
    config.save_pretrained(place)
    save_file(model.state_dict(), place / "model.safetensors", metadata={"format": "pt"})
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=12, **SPECIAL)
    fast.save_pretrained(place)
    return place


def test_an_embedding_is_the_mean_over_the_tokens_of_the_title(folder: Path) -> None:
    encoder = pretrained_text_encoder(str(folder), "query: ", CPU, quiet)
    model = BertModel.from_pretrained(folder).eval()

    vector = encoder.embed(["red shoes"])

    with torch.inference_mode():
        states = model(torch.tensor([[3, 4, 5, 7]])).last_hidden_state
    assert np.allclose(vector, states.mean(1).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["small", "pretrained"])
def test_padding_and_company_change_nothing(words: WordPieces, folder: Path, kind: str) -> None:
    encoder = (
        small_text_encoder(words, "", 0, CPU)
        if kind == "small"
        else pretrained_text_encoder(str(folder), "query: ", CPU, quiet)
    )

    together = encoder.embed(TITLES)
    alone = np.concatenate([encoder.embed([title]) for title in TITLES])

    assert np.allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_the_small_encoder_is_the_same_for_the_same_seed(words: WordPieces) -> None:
    first, again, other = (small_text_encoder(words, "", seed, CPU) for seed in (1, 1, 2))

    assert (first.embed(TITLES) == again.embed(TITLES)).all()
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_title_of_a_megabyte_is_cut(words: WordPieces) -> None:
    assert np.isfinite(small_text_encoder(words, "", 0, CPU).embed(["red " * 250_000])).all()


@pytest.mark.parametrize("kind", ["small", "pretrained"])
def test_a_saved_encoder_is_the_same_elsewhere(
    words: WordPieces, folder: Path, tmp_path: Path, kind: str
) -> None:
    encoder = (
        small_text_encoder(words, "", 0, CPU)
        if kind == "small"
        else pretrained_text_encoder(str(folder), "query: ", CPU, quiet)
    )
    encoder.embed(TITLES)
    encoder.save(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")

    loaded = TextEncoder.load(tmp_path / "there", words, CPU)

    assert loaded.spec == encoder.spec
    assert loaded.fingerprint == encoder.fingerprint
    assert np.allclose(loaded.embed(TITLES), encoder.embed(TITLES), atol=1e-6)
    names = {path.suffix for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert names == {".json", ".safetensors"}


def test_a_pretrained_encoder_has_no_random_weights(folder: Path) -> None:
    prints = {pretrained_text_encoder(str(folder), "", CPU, quiet).fingerprint for _ in range(2)}

    assert len(prints) == 1


def test_the_prefix_is_part_of_the_fingerprint(folder: Path) -> None:
    plain, query = (
        pretrained_text_encoder(str(folder), prefix, CPU, quiet) for prefix in ("", "query: ")
    )

    assert plain.fingerprint != query.fingerprint


def copied(folder: Path, place: Path) -> Path:
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def test_a_folder_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    place = copied(folder, tmp_path / "part")
    state = load_file(place / "model.safetensors")
    state.pop("embeddings.word_embeddings.weight")
    save_file(state, place / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(UserError, match=r"lacks weights, as '.*word_embeddings.weight'"):
        pretrained_text_encoder(str(place), "", CPU, quiet)


@pytest.mark.parametrize("absent", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_folder_without_its_files_is_a_clear_error(
    folder: Path, tmp_path: Path, absent: str
) -> None:
    place = copied(folder, tmp_path / "part")
    (place / absent).unlink()

    with pytest.raises(UserError, match="cannot be loaded"):
        pretrained_text_encoder(str(place), "", CPU, quiet)


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    place = copied(folder, tmp_path / "own")
    config = json.loads((place / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModel": "own.Own", "AutoConfig": "own.C"}}
    (place / "config.json").write_text(json.dumps(config))
    (place / "own.py").write_text("raise SystemExit('ran')")

    with pytest.raises(UserError, match="cannot be loaded"):
        pretrained_text_encoder(str(place), "", CPU, quiet)


@pytest.mark.parametrize("name", ["no-such/model", "not/a/name", "no-such/model@main"])
def test_a_name_out_of_reach_says_what_to_give(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(UserError, match="give a folder that transformers wrote"):
        pretrained_text_encoder(name, "", CPU, quiet)
