from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from features.schema import Tables
from features.splits import split_impressions, training_products
from purchase_predictor.encoders.arcface import ArcFaceRecipe
from purchase_predictor.encoders.content import ContentEncoders, fit_encoders
from purchase_predictor.encoders.fitting import ImageChoice, TextChoice
from purchase_predictor.errors import DataError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import load_settings
from purchase_predictor.training.preparation import Preparation

N = 16
NAMES = ["red shoes", "blue bag", "green hat", "a title"]
VOCABULARY = ["[PAD]", "[UNK]", "red", "blue", "green", "shoes", "bag", "hat", "a", "title"]
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
RECIPE = ArcFaceRecipe(2, 8, 0.003, 0.1, 0.4)
SETTINGS = load_settings(None, [])
NETWORK = "test_efficientnet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("catalogue")
    rng = np.random.default_rng(0)
    for number in range(N):
        colour = 60 * (number % 4) + rng.integers(0, 40, (40, 40, 3))
        Image.fromarray(colour.astype(np.uint8)).save(place / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A transformers folder of a tiny BERT."""
    place = tmp_path_factory.mktemp("models") / "tiny-bert"
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(VOCABULARY), intermediate_size=16, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(place)
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(VOCABULARY)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
    fast.save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting of a tiny timm network and its weights."""
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(timm.create_model(NETWORK).state_dict(), file)
    return f"{NETWORK}:{file}"


def catalogue() -> pl.DataFrame:
    """Sixteen listings of four groups."""
    return pl.DataFrame(
        {
            "product_id": [f"p{n}" for n in range(N)],
            "title": [f"{NAMES[n % 4]} {n}" for n in range(N)],
            "image": [f"{n}.png" for n in range(N)],
            "match_group": [f"g{n % 4}" for n in range(N)],
        }
    )


def fit(
    folder: Path,
    *,
    texts: list[TextChoice] | None = None,
    images: list[ImageChoice] | None = None,
    products: pl.DataFrame | None = None,
    training: np.ndarray | None = None,
    cache: Path | None = None,
    lines: list[str] | None = None,
) -> ContentEncoders:
    products = catalogue() if products is None else products
    return fit_encoders(
        products,
        folder,
        texts=texts or [],
        images=images or [],
        limits=SETTINGS.data,
        training=np.ones(len(products), dtype=bool) if training is None else training,
        max_words=6,
        n_word_pieces=256,
        seed=0,
        cache=cache,
        progress=([] if lines is None else lines).append,
    )


def prints(encoders: ContentEncoders) -> list[str]:
    return [encoder.fingerprint for encoder in (*encoders.texts, *encoders.images)]


def test_several_encoders_side_by_side_have_the_mean_of_their_cosines(
    folder: Path, bert: str, net: str
) -> None:
    texts = [TextChoice("small", recipe=RECIPE), TextChoice(bert)]
    images = [ImageChoice("small", 32, RECIPE), ImageChoice(net, 40)]
    both = fit(folder, texts=texts, images=images).encode(catalogue(), folder)

    apart = [
        fit(folder, texts=texts[n : n + 1], images=images[n : n + 1]).encode(catalogue(), folder)
        for n in range(2)
    ]

    for view in ("text", "image"):
        whole, parts = getattr(both, view), [getattr(part, view) for part in apart]
        cosines = [part @ part.T for part in parts]
        assert whole.shape[1] == sum(part.shape[1] for part in parts)
        assert np.allclose(whole @ whole.T, sum(cosines) / 2, atol=1e-5)
        assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


def test_each_encoder_is_kept_under_its_own_fingerprint(
    folder: Path, bert: str, tmp_path: Path
) -> None:
    choices = [TextChoice("small", recipe=RECIPE), TextChoice(bert)]

    encoders = fit(folder, texts=choices, cache=tmp_path)
    encoders.encode(catalogue(), folder)
    fit(folder, texts=choices[1:], cache=tmp_path).encode(catalogue(), folder)

    assert len(list((tmp_path / "embeddings").iterdir())) == 2


def test_the_same_encoder_twice_is_trained_with_two_seeds(folder: Path) -> None:
    encoders = fit(
        folder,
        texts=[TextChoice("small", recipe=RECIPE)] * 2,
        images=[ImageChoice("small", 32, RECIPE)] * 2,
    )

    assert len(set(prints(encoders))) == 4


def test_pretrained_encoders_are_trained_further_behind_a_neck(
    folder: Path, bert: str, net: str, tmp_path: Path
) -> None:
    frozen = fit(folder, texts=[TextChoice(bert)], images=[ImageChoice(net, 32)])
    fine = fit(
        folder,
        texts=[TextChoice(bert, recipe=RECIPE)],
        images=[ImageChoice(net, 32, replace(RECIPE, cutmix=0.5))],
    )
    content = fine.encode(catalogue(), folder)

    fine.save(tmp_path)
    loaded = ContentEncoders.load(tmp_path)

    again = loaded.encode(catalogue(), folder)
    assert [e.spec.neck for e in (*loaded.texts, *loaded.images)] == [True, True]
    assert [e.spec.neck for e in (*frozen.texts, *frozen.images)] == [False, False]
    assert np.allclose(again.text, content.text, atol=1e-6)
    assert np.allclose(again.image, content.image, atol=1e-6)
    assert prints(loaded) == prints(fine)
    for kind in ("texts", "images"):
        before, after = (getattr(each, kind)[0].network for each in (frozen, fine))
        old, new = before.state_dict(), after.state_dict()
        moved = [key for key in old if not torch.equal(old[key], new[key])]
        assert len(moved) > len(old) / 2


def test_token_vectors_may_stay_as_they_are(folder: Path, bert: str) -> None:
    frozen, learned = (
        fit(folder, texts=[TextChoice(bert, recipe=RECIPE, freeze_words=freeze)]).texts[0]
        for freeze in (True, False)
    )

    original = BertModel.from_pretrained(bert).get_input_embeddings().weight
    tables = [
        encoder.network.transformer.get_input_embeddings().weight for encoder in (frozen, learned)
    ]
    assert torch.equal(tables[0], original)
    assert tables[0].requires_grad
    assert not torch.equal(tables[1], original)


@pytest.mark.parametrize("lowercase", [True, False])
def test_titles_may_be_put_into_lower_case(
    folder: Path, bert: str, tmp_path: Path, lowercase: bool
) -> None:
    encoders = fit(folder, texts=[TextChoice(bert, lowercase=lowercase)])
    encoders.save(tmp_path)

    for encoder in (*encoders.texts, *ContentEncoders.load(tmp_path).texts):
        small, large = encoder.embed(["red shoes", "Red SHOES"])
        assert np.allclose(small, large, atol=1e-6) == lowercase


def test_without_a_recipe_the_small_encoders_have_random_weights_of_the_seed(
    folder: Path,
) -> None:
    choices = {"texts": [TextChoice("small")] * 2, "images": [ImageChoice("small", 32)]}

    first, again = fit(folder, **choices), fit(folder, **choices)
    zero = fit(folder, texts=[TextChoice("small", recipe=replace(RECIPE, epochs=0))])

    assert prints(first) == prints(again)
    assert len(set(prints(first))) == 3
    assert prints(zero) == prints(first)[:1]
    assert first.spec.notes == ()


@pytest.mark.parametrize("groups", [pl.col("product_id"), pl.lit("one"), pl.lit(None, pl.String)])
def test_groups_that_teach_nothing_leave_pretrained_encoders_as_they_were(
    folder: Path, bert: str, net: str, groups: pl.Expr
) -> None:
    products, lines = catalogue().with_columns(match_group=groups), []

    encoders = fit(
        folder,
        texts=[TextChoice(bert, recipe=RECIPE), TextChoice("small", recipe=RECIPE)],
        images=[ImageChoice(net, 32, RECIPE), ImageChoice("small", 32, RECIPE)],
        products=products,
        lines=lines,
    )

    frozen = fit(folder, texts=[TextChoice(bert)], images=[ImageChoice(net, 32)])
    assert prints(encoders) == prints(frozen)
    assert [note.partition(":")[0] for note in encoders.spec.notes] == [
        "The text encoder tiny-bert stays as it was pretrained",
        "Titles enter as word pieces only",
        f"The image encoder {NETWORK} stays as it was pretrained",
        "Pictures are left out",
    ]
    assert lines == list(encoders.spec.notes)


def test_broken_pictures_and_groups_of_one_are_counted_and_teach_nothing(
    folder: Path, tmp_path: Path
) -> None:
    for number in range(N):
        (tmp_path / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    (tmp_path / "4.png").write_bytes(b"\x89PNG no picture")
    (tmp_path / "5.png").unlink()
    alone = pl.when(pl.col("product_id") == "p6").then(pl.lit("alone")).otherwise("match_group")
    products = catalogue().with_columns(match_group=alone, title=pl.lit(None, pl.String))
    lines: list[str] = []

    encoders = fit(
        tmp_path, images=[ImageChoice("small", 32, RECIPE)], products=products, lines=lines
    )

    content = encoders.encode(products, tmp_path)
    assert "1 of 14 pictures of match groups cannot be read and teach nothing" in lines
    assert "small image encoder: training on 13 pictures of 4 match groups" in lines
    assert (
        sorted({f"p{n}" for n in range(N)} - {"p4", "p5", "p6"}) == encoders.trained_on.to_list()
    )
    assert [failure[0] for failure in content.failures] == ["p4", "p5"]
    assert np.flatnonzero(~content.has_image).tolist() == [4, 5]


def test_empty_titles_are_embedded_and_absent_ones_are_not(folder: Path) -> None:
    title = pl.when(pl.col("product_id").is_in(["p0", "p4"])).then(pl.lit("")).otherwise("title")
    title = pl.when(pl.col("product_id") != "p1").then(title)
    products = catalogue().with_columns(title=title)

    encoders = fit(folder, texts=[TextChoice("small", recipe=RECIPE)] * 2, products=products)

    content = encoders.encode(products, folder)
    assert np.allclose(np.linalg.norm(content.text, axis=1), np.arange(N) != 1, atol=1e-5)
    assert np.allclose(content.text[0], content.text[4])


class KilledError(Exception):
    pass


def test_a_killed_fit_goes_on_and_leaves_nothing_behind(
    folder: Path, bert: str, tmp_path: Path
) -> None:
    choices = [TextChoice(bert, recipe=RECIPE)]
    whole = fit(folder, texts=choices)

    class Killing(list[str]):
        def append(self, line: str) -> None:
            if "epoch 2/2" in line:
                raise KilledError

    with pytest.raises(KilledError):
        fit(folder, texts=choices, cache=tmp_path, lines=Killing())
    left = [path.name for path in (tmp_path / "encoders").iterdir()]
    lines: list[str] = []
    resumed = fit(folder, texts=choices, cache=tmp_path, lines=lines)

    assert [Path(name).suffix for name in left] == [".training"]
    assert any("goes on at epoch 2" in line for line in lines)
    assert prints(resumed) == prints(whole)
    assert [path.suffix for path in (tmp_path / "encoders").iterdir()] == [".safetensors"]


def test_the_products_that_taught_are_remembered(folder: Path, bert: str, tmp_path: Path) -> None:
    training = np.arange(N) < 8
    titleless = catalogue().with_columns(title=pl.lit(None, pl.String))

    encoders = fit(folder, texts=[TextChoice("small", recipe=RECIPE)], training=training)
    pieces = fit(folder, texts=[TextChoice(bert)], training=training)
    frozen = fit(folder, images=[ImageChoice("small", 32)], products=titleless)
    encoders.save(tmp_path)

    expected = sorted(f"p{n}" for n in range(8))
    assert encoders.trained_on.to_list() == pieces.trained_on.to_list() == expected
    assert frozen.trained_on.to_list() == []
    assert pl.read_parquet(tmp_path / "trained_on.parquet").to_dict(as_series=False) == {
        "product_id": expected
    }
    assert ContentEncoders.load(tmp_path).trained_on.to_list() == expected


class FitReachedError(Exception):
    pass


@pytest.mark.parametrize("within", [True, False])
def test_encoders_that_saw_the_future_are_refused(
    tiny_tables: Tables, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    split = split_impressions(tiny_tables, validation_fraction=0.2, test_fraction=0.2, seed=0)
    training = training_products(tiny_tables, split)
    assert 0 < (~training).sum() < len(training)
    titled = tiny_tables.products.filter(~pl.Series(training) & pl.col("title").is_not_null())
    later = titled["product_id"].to_list()

    def reached(*_arguments: object, **_named: object) -> None:
        raise FitReachedError

    monkeypatch.setattr(Preparation, "fit", reached)
    encoders = fit(
        tiny_tables.folder,
        products=tiny_tables.products,
        training=training if within else np.ones(len(training), dtype=bool),
    )
    settings = load_settings(None, ["data.min_conversions=5", "data.validation_fraction=0.2"])

    with pytest.raises(FitReachedError if within else DataError) as raised:
        PurchasePredictor(settings).fit(tiny_tables, content=encoders)

    if not within:
        assert str(raised.value).startswith(f"The encoders were trained on {len(later)} products")
        assert f"as '{later[0]}'" in str(raised.value)


def test_products_of_another_catalogue_leak_nothing(folder: Path) -> None:
    encoders = fit(folder)
    nothing = np.zeros(2, dtype=bool)

    encoders.check_trained_within(pl.Series(["other", "more"]), nothing)
    with pytest.raises(DataError, match="as 'p3'"):
        encoders.check_trained_within(pl.Series(["other", "p3"]), nothing)


def test_a_folder_of_an_older_version_is_a_clear_error(folder: Path, tmp_path: Path) -> None:
    fit(folder).save(tmp_path)
    (tmp_path / "trained_on.parquet").unlink()

    with pytest.raises(DataError, match="or one of an older version"):
        ContentEncoders.load(tmp_path)
