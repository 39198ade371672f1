import pytest
import torch

from purchase_predictor.encoders.augmentation import cutmix, mirrored


def plain_pictures(n: int, side: int = 20) -> torch.Tensor:
    """Picture number k is of colour k all over."""
    numbers = torch.arange(n, dtype=torch.uint8)
    return numbers[:, None, None, None].expand(n, side, side, 3).contiguous()


def test_half_of_the_pictures_are_mirrored_left_to_right() -> None:
    ramp = torch.arange(4, dtype=torch.uint8)[None, None, :, None].expand(400, 2, 4, 3)

    changed = mirrored(ramp, torch.Generator().manual_seed(0))

    turned = (changed == ramp.flip(2)).all(dim=(1, 2, 3))
    assert 150 < turned.sum() < 250
    assert torch.equal(changed[~turned], ramp[~turned])


@pytest.mark.parametrize("seed", range(8))
def test_the_box_of_each_picture_is_its_partners_and_the_share_is_what_is_left(seed: int) -> None:
    pixels = plain_pictures(6)

    mixed, mixture = cutmix(pixels, torch.Generator().manual_seed(seed))

    own = torch.arange(6)
    foreign = mixed[..., 0] != own[:, None, None]
    partner = mixture.partner[:, None, None].expand_as(foreign)
    assert (mixed[..., 0][foreign] == partner[foreign]).all()
    assert sorted(mixture.partner.tolist()) == own.tolist()
    moved = mixture.partner != own
    left = 1 - foreign[moved].float().mean(dim=(1, 2))
    assert left.tolist() == pytest.approx([mixture.share] * int(moved.sum()))
    boxes = foreign[moved]
    assert (boxes == boxes[:1]).all()
    assert torch.equal(pixels, plain_pictures(6))


def test_boxes_come_in_all_sizes() -> None:
    generator = torch.Generator().manual_seed(1)

    shares = [cutmix(plain_pictures(2), generator)[1].share for _ in range(200)]

    assert min(shares) < 0.2
    assert max(shares) > 0.95
    assert 0.5 < sum(shares) / 200 < 0.75
