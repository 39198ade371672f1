from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from purchase_predictor.encoders.image import (
    ImageEncoder,
    ImageSpec,
    pretrained_image_encoder,
    small_spec,
    untrained_network,
)
from purchase_predictor.errors import UserError

CPU = torch.device("cpu")
NAME = "test_efficientnet"
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a whole timm network, classifier included."""
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(timm.create_model(NAME).state_dict(), file)
    return file


def test_a_named_network_with_a_file_embeds_as_timm_does(weights: Path) -> None:
    encoder = pretrained_image_encoder(f"{NAME}:{weights}", 32, CPU, quiet)
    model = timm.create_model(NAME, checkpoint_path=weights).eval()
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))

    vectors = encoder.embed(PIXELS)

    with torch.inference_mode():
        values = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255 - mean) / std
        expected = model.forward_head(model.forward_features(values), pre_logits=True)
        unit = encoder.network(torch.from_numpy(PIXELS)).numpy()
    assert np.allclose(vectors, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert np.allclose(unit, vectors / np.linalg.norm(vectors, axis=1)[:, None], atol=1e-6)


def test_the_small_network_is_the_same_for_the_same_seed() -> None:
    first, again, other = (untrained_network(small_spec(32), seed) for seed in (1, 1, 2))

    embeddings = [ImageEncoder(small_spec(32), net, CPU).embed(PIXELS) for net in (first, again)]

    assert (embeddings[0] == embeddings[1]).all()
    assert not torch.equal(next(first.backbone.parameters()), next(other.backbone.parameters()))


def test_a_batch_of_one_gives_what_the_batch_gives() -> None:
    encoder = ImageEncoder(small_spec(32), untrained_network(small_spec(32), 0), CPU)

    alone = np.concatenate([encoder.embed(PIXELS[row : row + 1]) for row in range(3)])

    assert np.allclose(encoder.embed(PIXELS), alone, atol=1e-6)


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_saved_encoder_is_the_same_elsewhere(
    tmp_path: Path, weights: Path, pretrained: bool
) -> None:
    encoder = (
        pretrained_image_encoder(f"{NAME}:{weights}", 32, CPU, quiet)
        if pretrained
        else ImageEncoder(small_spec(32), untrained_network(small_spec(32), 4), CPU)
    )
    encoder.save(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")

    loaded = ImageEncoder.load(tmp_path / "there", CPU)

    assert loaded.spec == encoder.spec
    assert loaded.fingerprint == encoder.fingerprint
    assert np.allclose(loaded.embed(PIXELS), encoder.embed(PIXELS), atol=1e-6)


def test_the_fingerprint_tells_sizes_and_weights_apart() -> None:
    specs = [small_spec(32), small_spec(32), small_spec(48)]
    networks = [untrained_network(spec, seed) for spec, seed in zip(specs, (0, 1, 0), strict=True)]

    prints = {
        ImageEncoder(spec, network, CPU).fingerprint
        for spec, network in zip(specs, networks, strict=True)
    }

    assert len(prints) == 3


def test_a_network_of_a_fixed_size_takes_the_size_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", img_size=32).state_dict(), file)

    encoder = pretrained_image_encoder(f"test_vit:{file}", 32, CPU, quiet)

    assert encoder.embed(PIXELS).shape == (3, encoder.d)
    encoder.save(tmp_path)
    assert np.allclose(
        ImageEncoder.load(tmp_path, CPU).embed(PIXELS), encoder.embed(PIXELS), atol=1e-6
    )


def test_size_nought_is_the_size_the_network_was_made_for(weights: Path) -> None:
    encoder = pretrained_image_encoder(f"{NAME}:{weights}", 0, CPU, quiet)

    assert encoder.spec.size == timm.get_pretrained_cfg(NAME).input_size[-1]
    assert small_spec(0).size == 64


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet50"):
        pretrained_image_encoder("resnet50x", 32, CPU, quiet)


def test_weights_of_another_network_are_refused(tmp_path: Path, weights: Path) -> None:
    part = tmp_path / "part.safetensors"
    state = timm.create_model(NAME, num_classes=0).state_dict()
    state.pop("conv_stem.weight")
    save_file(state, part)

    with pytest.raises(UserError, match="do not fit"):
        pretrained_image_encoder(f"test_resnet:{weights}", 32, CPU, quiet)
    with pytest.raises(UserError, match="1 differ, as 'conv_stem.weight'"):
        pretrained_image_encoder(f"{NAME}:{part}", 32, CPU, quiet)


def test_a_file_that_is_absent_or_no_safetensors_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04")

    with pytest.raises(UserError, match="not there"):
        pretrained_image_encoder(f"{NAME}:{tmp_path}/absent.safetensors", 32, CPU, quiet)
    with pytest.raises(UserError, match="not a safetensors file"):
        pretrained_image_encoder(f"{NAME}:{tmp_path}/net.pth", 32, CPU, quiet)


def test_without_the_hub_a_name_alone_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(UserError, match="give its weights as 'test_resnet:FILE.safetensors"):
        pretrained_image_encoder("test_resnet", 32, CPU, quiet)


def test_a_spec_says_all_but_the_weights() -> None:
    spec = small_spec(64)

    assert isinstance(spec, ImageSpec)
    assert spec.neck
    assert sum(weight.numel() for weight in untrained_network(spec, 0).parameters()) < 500_000
