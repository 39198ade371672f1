import numpy as np
import polars as pl
import pytest
from scipy import sparse

from purchase_predictor.matching.matches import Matches, rows_of
from purchase_predictor.matching.quantities import quantities, veto


def everything(n: int) -> Matches:
    return sparse.csr_array(np.full((n, n), 0.5, np.float32) + np.eye(n, dtype=np.float32) / 2)


def vetoed(first: str | None, second: str | None) -> bool:
    left = veto(everything(2), pl.Series([first, second], dtype=pl.String))
    assert (left.diagonal() == 1).all()
    assert left.nnz in (2, 4)
    return left.nnz == 2


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Beras 1 kg", {("mass", 1000)}),
        ("GULA 500GR", {("mass", 500)}),
        ("kopi 2 ons", {("mass", 200)}),
        ("vitamin 0,5 mg", {("mass", 0.0005)}),
        ("Minyak 1.000 ml", {("volume", 1000)}),
        ("Minyak 1,5 liter", {("volume", 1500)}),
        ("sabun 0.125 kg", {("mass", 125)}),
        ("teh 22,5 gr", {("mass", 22.5)}),
        ("rope 2.5m", {("length", 2500)}),
        ("Toples isi 6", {("pieces", 6)}),
        ("piring 1 lusin isi 12pcs", {("pieces", 12)}),
        ("gelas 2 lusin", {("pieces", 24)}),
        ("kain 1 kodi", {("pieces", 20)}),
        ("KAPSUL ISI 120'S", {("pieces", 120)}),
        ("tisu 3 pak", {("packs", 3)}),
        ("flashdisk 1 TB", {("storage", 1024**2)}),
        ("Powerbank 10.000mAh", {("charge", 10000)}),
        ("LED 12 watt", {("power", 12)}),
        ("serum 2 x 125ml", {("volume", 125), ("volume", 250)}),
        ("karet 50/100 pcs", {("pieces", 50), ("pieces", 100)}),
        ("roll 250GR ISI 10PCS", {("mass", 250), ("pieces", 10)}),
        ("tape 5CM x 4,5M", {("length", 50), ("length", 4500)}),
        ("X200 M case", set()),
        ("tas wanita 2020", set()),
        ("stok 0 pcs", set()),
        ("", set()),
    ],
)
def test_quantities_of_a_title(title: str, expected: set[tuple[str, float]]) -> None:
    assert {(found.dimension, found.value[0]) for found in quantities(title)} == expected


def test_lengths_between_crosses_are_one_size() -> None:
    assert quantities("lap 40 x 30 cm") == quantities("LAP 30x40CM") == {("size", (300.0, 400.0))}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("susu 400 g", "susu 200 g"),
        ("susu 1 kg", "susu 900 gram"),
        ("minyak 1 l", "minyak 1,5 liter"),
        ("handuk 70x135 cm", "handuk 70x140 cm"),
        ("masker isi 50 pcs", "masker isi 40 pcs"),
        ("sabun 250ml 2 pcs", "sabun 250ml 3 pcs"),
        ("kabel 1m", "kabel 200 cm"),
    ],
)
def test_pair_that_contradicts_is_vetoed(first: str, second: str) -> None:
    assert vetoed(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("susu 1 kg", "susu 1000 g"),
        ("susu 0,4 kg", "susu 400gr"),
        ("minyak 1.000 ml", "minyak 1 liter"),
        ("mask 2 x 6 ml", "mask 12 ml"),
        ("susu 400 g", "susu 2 pcs"),
        ("susu 400 g", "susu"),
        ("susu 400 g", None),
        ("gelas 1 lusin", "gelas isi 12"),
        ("paket 200 g dan 400 g", "susu 400 g"),
        ("kain 1 yard", "kain 91,44 cm"),
    ],
)
def test_pair_that_agrees_or_says_nothing_is_left(first: str, second: str | None) -> None:
    assert not vetoed(first, second)


def test_only_the_pairs_that_contradict_go_and_cosines_stay() -> None:
    titles = pl.Series(["a 1 kg isi 2", "a 1000 g isi 3", "a 1 kg", "a", "a isi 2"])
    matches = everything(5)
    matches.data = np.linspace(0, 1, 25, dtype=np.float32)

    left = veto(matches, titles)

    kept = set(zip(rows_of(left).tolist(), left.indices.tolist(), strict=True))
    assert kept == {(r, c) for r in range(5) for c in range(5)} - {(0, 1), (1, 0), (1, 4), (4, 1)}
    for row, column in kept:
        assert left[row, column] == matches[row, column]


def test_nothing_to_veto() -> None:
    assert veto(everything(1), pl.Series(["1 kg"])).nnz == 1
    assert veto(everything(2), pl.Series([None, None], dtype=pl.String)).nnz == 4


def test_titles_of_other_listings() -> None:
    with pytest.raises(ValueError, match="2 listings, but 3 titles"):
        veto(everything(2), pl.Series(["a", "b", "c"]))
