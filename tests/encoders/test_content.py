from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from features.arrays import MISSING, PAD
from purchase_predictor.encoders.content import ContentEncoders, ProductContent
from purchase_predictor.encoders.layout import LayoutEncoder
from purchase_predictor.errors import DataError, UserError
from purchase_predictor.settings import DataSettings, EncoderSettings, load_settings

N = 24
COLOURS = [(220, 30, 30), (30, 200, 40), (40, 40, 220), (230, 220, 40)]
NAMES = ["red shoes", "초록 가방", "青い 帽子", "yellow mug"]


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("catalogue")
    rng = np.random.default_rng(0)
    for number in range(N):
        noise = rng.integers(-25, 25, (20, 20, 3))
        pixels = (np.array(COLOURS[number % 4]) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return place


def catalogue() -> pl.DataFrame:
    """24 listings of 4 groups; the last 4 have odd titles and pictures."""
    numbers = range(N)
    return pl.DataFrame(
        {
            "product_id": [f"p{n}" for n in numbers],
            "title": [f"{NAMES[n % 4]} no {n // 4}" for n in numbers[:-3]] + [None, "", "red"],
            "image": [f"{n}.png" for n in numbers[:-4]] + ["0.png", None, "absent.png", "../x"],
            "match_group": [f"g{n % 4}" for n in numbers],
        }
    )


def settings(*changes: str, cache: Path | None = None) -> tuple[EncoderSettings, DataSettings]:
    loaded = load_settings(
        None,
        [
            "encoders.epochs=2",
            "encoders.batch_size=8",
            "encoders.image_size=32",
            "encoders.n_word_pieces=256",
            "encoders.max_words=6",
            f"encoders.cache='{cache or ''}'",
            *changes,
        ],
    )
    return loaded.encoders, loaded.data


def fitted(
    folder: Path,
    *changes: str,
    products: pl.DataFrame | None = None,
    training: np.ndarray | None = None,
    cache: Path | None = None,
    seed: int = 0,
    lines: list[str] | None = None,
) -> ContentEncoders:
    products = catalogue() if products is None else products
    chosen = np.ones(len(products), dtype=bool) if training is None else training
    return ContentEncoders.fit(
        products,
        folder,
        *settings(*changes, cache=cache),
        training=chosen,
        seed=seed,
        progress=quiet if lines is None else lines.append,
    )


@pytest.fixture(scope="module")
def encoders(folder: Path) -> ContentEncoders:
    return fitted(folder)


@pytest.fixture(scope="module")
def content(encoders: ContentEncoders, folder: Path) -> ProductContent:
    return encoders.encode(catalogue(), folder)


def same(one: ProductContent, two: ProductContent) -> bool:
    names = ("words", "text", "image", "has_text", "has_image")
    return all(np.allclose(getattr(one, n), getattr(two, n), atol=1e-6) for n in names)


def fingerprints(encoders: ContentEncoders) -> list[str]:
    return [encoder.fingerprint for encoder in (*encoders.texts, *encoders.images)]


def test_shapes_and_types(content: ProductContent, encoders: ContentEncoders) -> None:
    assert content.words.shape == (N, 6)
    assert content.words.dtype == np.int32
    assert content.text.shape == (N, 128)
    assert content.image.shape == (N, 128)
    assert content.text.dtype == content.image.dtype == np.float32
    assert content.n_word_pieces == len(encoders.words or ()) == encoders.n_word_pieces
    assert content.words.max() < content.n_word_pieces


def test_missing_is_zero_and_present_has_length_one(content: ProductContent) -> None:
    for vectors, there in ((content.text, content.has_text), (content.image, content.has_image)):
        assert np.allclose(np.linalg.norm(vectors, axis=1), there, atol=1e-5)
    assert np.flatnonzero(~content.has_text).tolist() == [N - 3]
    assert np.flatnonzero(~content.has_image).tolist() == [N - 3, N - 2, N - 1]


def test_a_missing_title_is_not_an_empty_one(content: ProductContent) -> None:
    assert content.words[N - 3].tolist() == [MISSING] + [PAD] * 5
    assert content.words[N - 2].tolist() == [PAD] * 6
    assert content.has_text[N - 2]


def test_the_layout_is_the_picture_of_eight_pixels_where_it_is_asked_for(
    encoders: ContentEncoders, folder: Path, content: ProductContent
) -> None:
    asked = encoders.encode(catalogue(), folder, layout=True)
    assert content.layout.shape == (N, 0)
    assert asked.layout.shape == (N, LayoutEncoder.d)
    assert same(asked, content)
    assert (asked.layout[~asked.has_image] == 0).all()
    colours = asked.layout[:4].reshape(4, -1, 3)
    np.testing.assert_allclose(
        colours, np.broadcast_to(np.array(COLOURS)[:, None] / 255, colours.shape), atol=0.08
    )


def test_pictures_that_cannot_be_read_are_told(content: ProductContent) -> None:
    assert [failure[:2] for failure in content.failures] == [
        (f"p{N - 2}", "absent.png"),
        (f"p{N - 1}", "../x"),
    ]


def test_equal_pictures_have_equal_vectors(content: ProductContent) -> None:
    assert (content.image[N - 4] == content.image[0]).all()
    assert not np.allclose(content.image[1], content.image[0])


def test_the_order_and_the_company_of_products_change_nothing(
    encoders: ContentEncoders, folder: Path, content: ProductContent
) -> None:
    part = encoders.encode(catalogue()[::-1].head(5), folder)

    assert np.allclose(part.text, content.text[::-1][:5], atol=1e-6)
    assert np.allclose(part.image, content.image[::-1][:5], atol=1e-6)
    assert (part.words == content.words[::-1][:5]).all()


def test_no_products_at_all(encoders: ContentEncoders, folder: Path) -> None:
    content = encoders.encode(catalogue().head(0), folder)

    assert content.words.shape == (0, 6)
    assert content.text.shape == content.image.shape == (0, 128)
    assert fitted(folder, products=catalogue().head(0)).n_word_pieces == 0


def test_only_training_products_teach(folder: Path) -> None:
    training = np.arange(N) < 16
    changed = catalogue().with_columns(
        title=pl.when(pl.Series(training)).then("title").otherwise(pl.lit("other words")),
        image=pl.when(pl.Series(training)).then("image").otherwise(pl.lit("3.png")),
        match_group=pl.when(pl.Series(training)).then("match_group").otherwise(pl.lit("g0")),
    )

    one = fitted(folder, training=training)
    two = fitted(folder, products=changed, training=training)
    all_teach = fitted(folder)

    assert one.words is not None
    assert two.words is not None
    assert one.words.json == two.words.json
    assert fingerprints(one) == fingerprints(two)
    assert not set(fingerprints(one)) & set(fingerprints(all_teach))


def test_training_must_say_which_products(folder: Path) -> None:
    with pytest.raises(ValueError, match="training must be bool"):
        fitted(folder, training=np.ones(N - 1, dtype=bool))


def test_the_same_seed_gives_the_same_encoders(
    folder: Path, encoders: ContentEncoders, content: ProductContent
) -> None:
    before = torch.random.get_rng_state()

    again = fitted(folder)

    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(again.encode(catalogue(), folder), content)
    assert not same(fitted(folder, seed=1).encode(catalogue(), folder), content)


def test_training_brings_a_match_group_together(folder: Path) -> None:
    products, training = catalogue().head(20), np.arange(20) < 12
    content = fitted(folder, "encoders.epochs=12", products=products, training=training).encode(
        products, folder
    )

    for vectors in (content.text[12:], content.image[12:]):
        cosine = vectors @ vectors.T
        group = np.arange(8) % 4
        together = group[:, None] == group[None]
        assert cosine[together].mean() > cosine[~together].mean() + 0.2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (pl.lit(None, dtype=pl.String), "fewer than two match groups"),
        (pl.col("product_id"), "fewer than two match groups"),
        (pl.lit("the only one"), "fewer than two match groups"),
    ],
)
def test_without_match_groups_words_alone_remain(
    folder: Path, changed: pl.Expr, reason: str
) -> None:
    lines: list[str] = []
    products = catalogue().with_columns(match_group=changed)

    encoders = fitted(folder, products=products, lines=lines)
    content = encoders.encode(products, folder)

    assert content.text.shape == content.image.shape == (N, 0)
    assert content.words.shape == (N, 6)
    assert content.has_text.sum() == N - 1
    assert not content.has_image.any()
    assert sum(reason in line for line in lines) == 2
    assert encoders.spec.notes == tuple(lines)


def test_pictures_too_small_for_the_network_are_a_clear_error(folder: Path) -> None:
    with pytest.raises(UserError, match="cannot take pictures of 16 pixels"):
        fitted(folder, "encoders.image_size=16")


def test_no_epochs_leave_the_small_encoders_out(folder: Path) -> None:
    encoders = fitted(folder, "encoders.epochs=0")

    assert encoders.texts == encoders.images == ()
    assert "encoders.epochs is 0" in encoders.spec.notes[0]


def test_a_catalogue_without_titles_and_pictures(folder: Path) -> None:
    lines: list[str] = []
    nothing = pl.lit(None, dtype=pl.String)
    products = catalogue().with_columns(title=nothing, image=nothing)

    content = fitted(folder, products=products, lines=lines).encode(products, folder)

    assert content.words.shape == content.text.shape == content.image.shape == (N, 0)
    assert content.n_word_pieces == 0
    assert not content.has_text.any()
    assert len(lines) == 2


def test_groups_whose_pictures_are_all_damaged_train_nothing(tmp_path: Path) -> None:
    for number in range(N):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG broken %d" % number)

    encoders = fitted(tmp_path)

    assert encoders.images == ()
    assert "Pictures are left out" in encoders.spec.notes[0]


def test_the_cache_spares_training_and_embedding(
    folder: Path, tmp_path: Path, content: ProductContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = fitted(folder, cache=tmp_path).encode(catalogue(), folder)
    lines: list[str] = []
    warm = fitted(folder, cache=tmp_path, lines=lines)
    for encoder in (*warm.texts, *warm.images):
        monkeypatch.setattr(encoder, "embed", None)

    again = warm.encode(catalogue(), folder)

    assert same(cold, content)
    assert same(again, cold)
    assert again.failures == cold.failures
    assert all("trained before" in line for line in lines)
    names = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {".safetensors"}


def test_the_cache_knows_the_groups_the_settings_and_the_seed(
    folder: Path, tmp_path: Path
) -> None:
    regrouped = catalogue().with_columns(match_group=pl.col("match_group").reverse())
    swapped = catalogue().with_columns(
        image=pl.when(pl.col("product_id") == "p0").then(pl.lit("1.png")).otherwise("image"),
        title=pl.when(pl.col("product_id") == "p0").then(pl.lit("red mug")).otherwise("title"),
    )

    fitted(folder, cache=tmp_path)
    fitted(folder, cache=tmp_path, products=regrouped)
    fitted(folder, cache=tmp_path, products=swapped)
    fitted(folder, "encoders.learning_rate=0.003", cache=tmp_path)
    fitted(folder, cache=tmp_path, seed=3)

    kept = sorted(path.name[:5] for path in (tmp_path / "encoders").iterdir())
    assert kept == ["image"] * 5 + ["text-"] * 5


def test_a_cache_that_cannot_be_written_is_a_clear_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(UserError, match="Cannot"):
        fitted(folder, cache=tmp_path / "file")


def test_saved_moved_and_loaded_it_encodes_the_same(
    encoders: ContentEncoders, folder: Path, content: ProductContent, tmp_path: Path
) -> None:
    encoders.save(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")

    loaded = ContentEncoders.load(tmp_path / "there")

    assert loaded.spec == encoders.spec
    assert same(loaded.encode(catalogue(), folder), content)
    names = {path.suffix for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert names == {".json", ".parquet", ".safetensors"}


def test_a_block_left_out_stays_out_when_loaded(folder: Path, tmp_path: Path) -> None:
    products = catalogue().with_columns(match_group=pl.lit(None, dtype=pl.String))
    encoders = fitted(folder, products=products)
    encoders.save(tmp_path)

    loaded = ContentEncoders.load(tmp_path)

    assert loaded.spec.notes == encoders.spec.notes
    assert loaded.texts == loaded.images == ()
    assert same(loaded.encode(products, folder), encoders.encode(products, folder))


def test_a_folder_of_something_else_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder of trained encoders"):
        ContentEncoders.load(tmp_path)


@pytest.mark.parametrize(
    ("title", "image"),
    [(["red shoe"], [None]), (["red shoe"], ["images/absent.png"]), ([None], [None]), ([], [])],
)
def test_products_without_any_picture_or_title_are_encoded(
    encoders: ContentEncoders, tmp_path: Path, title: list[str | None], image: list[str | None]
) -> None:
    products = pl.DataFrame(
        {"product_id": [f"p{n}" for n in range(len(title))], "title": title, "image": image},
        schema=dict.fromkeys(("product_id", "title", "image"), pl.String),
    )

    for raw in (False, True):
        content = encoders.encode(products, tmp_path, raw=raw)

        assert content.image.shape == (len(title), sum(e.d for e in encoders.images))
        assert content.text.shape == (len(title), sum(e.d for e in encoders.texts))
        assert not content.has_image.any()
        assert np.isfinite(content.text).all()
