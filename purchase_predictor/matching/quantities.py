"""Quantities that titles state: 400 g is not 200 g, 1 kg is 1000 g.

Titles in Indonesian, Malay and English; the units are those that sellers write ("gr", "ltr",
"isi 12"), which general libraries of units do not know.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from purchase_predictor.matching.matches import Matches, rows_of

UNITS: dict[str, dict[str, float]] = {
    "mass": {
        **dict.fromkeys(("g", "gr", "grm", "gram", "grams", "gm"), 1.0),
        **dict.fromkeys(("kg", "kgs", "kilo", "kilogram"), 1000.0),
        **dict.fromkeys(("mg", "miligram"), 0.001),
        "ons": 100.0,
    },
    "volume": {
        **dict.fromkeys(("ml", "mili", "mililiter", "cc"), 1.0),
        **dict.fromkeys(("l", "lt", "ltr", "liter", "litre", "liters"), 1000.0),
    },
    "length": {
        "mm": 1.0,
        **dict.fromkeys(("cm", "centimeter"), 10.0),
        **dict.fromkeys(("m", "mtr", "meter", "metre"), 1000.0),
        **dict.fromkeys(("inch", "inchi", "inci", "inches"), 25.4),
        **dict.fromkeys(("yard", "yards", "yd"), 914.4),
    },
    "pieces": {
        **dict.fromkeys(
            (
                *("pcs", "pc", "pieces", "piece", "biji", "bh", "buah", "butir", "keping"),
                *("lembar", "lbr", "sheet", "sheets", "sachet", "sachets", "saset"),
                *("tablet", "kapsul", "kaplet", "capsule", "capsules", "'s", "’s", "pads"),
            ),
            1.0,
        ),
        **dict.fromkeys(("lusin", "dozen"), 12.0),
        "kodi": 20.0,
    },
    "packs": dict.fromkeys(("pack", "packs", "pak", "bungkus", "bks", "renceng"), 1.0),
    "storage": {"mb": 1.0, "gb": 1024.0, "tb": 1024.0**2},
    "charge": {"mah": 1.0},
    "power": dict.fromkeys(("w", "watt", "watts"), 1.0),
}
"""Base units of each dimension: gram, millilitre, millimetre, piece, pack, megabyte, mAh, watt."""

_CONTENT = ("isi", "contents")
"""Words before a number of pieces."""

_COUNTED = ("mass", "volume")
_BY_UNIT = {unit: (name, size) for name, units in UNITS.items() for unit, size in units.items()}
_NUMBER = r"\d{1,3}(?:[.,]\d{3})+(?![\d.,]*\d)|\d+(?:[.,]\d+)?"
_CHAIN = rf"(?:{_NUMBER})(?:\s*[x×*]\s*(?:{_NUMBER}))*"
_UNIT = "|".join(sorted(map(re.escape, _BY_UNIT), key=len, reverse=True))
_STATED = re.compile(
    # Not the tail of a longer number or of a model's name ("X200 M", "1:50 cm").
    rf"(?<![\w.,:])(?P<numbers>{_CHAIN}(?:\s*/\s*{_CHAIN})*)\s*(?P<unit>{_UNIT})(?!\w)"
)
_CONTAINED = re.compile(rf"(?<!\w)(?:{'|'.join(_CONTENT)})\s*:?\s*(?P<number>\d+)(?![\d.,x×*])")
_TIMES = re.compile(r"\s*[x×*]\s*")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[.,]\d{3})+")


class Quantity(NamedTuple):
    """What a title says of its product's size.

    Attributes:
        dimension: of `UNITS`, or "size" for several lengths taken together.
        value: in base units; the lengths of a size, shortest first.
    """

    dimension: str
    value: tuple[float, ...]


def quantities(title: str) -> set[Quantity]:
    """Quantities that a title states.

    "2 x 125 ml" is 125 ml and 250 ml, since others write the total; "30 x 40 cm" is one size;
    "50/100 pcs" is either. A separator before three digits marks thousands ("1.000 ml") unless a
    zero is before it.

    Args:
        title: of a listing.
    """
    text = title.lower()
    found = {
        quantity
        for match in _STATED.finditer(text)
        for chain in match["numbers"].split("/")
        for quantity in _stated(_TIMES.split(chain.strip()), match["unit"])
    }
    found |= {Quantity("pieces", (float(match["number"]),)) for match in _CONTAINED.finditer(text)}
    return {quantity for quantity in found if all(quantity.value)}


def veto(matches: Matches, titles: pl.Series) -> Matches:
    """Matches without the pairs whose titles contradict each other.

    They do where both state a quantity of the same dimension and share none of it.

    Args:
        matches: of a gallery.
        titles: of the same listings; one that is null states nothing.

    Returns:
        The matches left; a listing always matches itself.

    Raises:
        ValueError: if the lengths differ.
    """
    if len(titles) != matches.shape[0]:
        raise ValueError(f"There are {matches.shape[0]} listings, but {len(titles)} titles.")
    row, column = rows_of(matches), matches.indices
    vetoed = np.zeros(len(row), dtype=bool)
    for stated in _incidence(titles):
        count = np.diff(stated.indptr)
        both = np.flatnonzero((count[row] > 0) & (count[column] > 0))
        shared = stated[row[both]].multiply(stated[column[both]]).sum(axis=1)
        vetoed[both[shared == 0]] = True
    left = np.bincount(row[~vetoed], minlength=len(titles))
    starts = np.concatenate([[0], np.cumsum(left)])
    return sparse.csr_array((matches.data[~vetoed], column[~vetoed], starts), matches.shape)


def _stated(numbers: list[str], unit: str) -> Iterator[Quantity]:
    """Quantities of numbers with × between them and one unit behind."""
    dimension, size = _BY_UNIT[unit]
    values = [_number(number) for number in numbers]
    if dimension == "length" and len(values) > 1:
        yield Quantity("size", tuple(sorted(_rounded(value * size) for value in values)))
        return
    yield Quantity(dimension, (_rounded(values[-1] * size),))
    if dimension in _COUNTED and len(values) > 1:
        yield Quantity(dimension, (_rounded(float(np.prod(values)) * size),))


def _number(text: str) -> float:
    if _THOUSANDS.fullmatch(text):
        return float(re.sub(r"[.,]", "", text))
    return float(text.replace(",", "."))


def _rounded(value: float) -> float:
    """Nine digits, so that 0.4 kg is 400 g."""
    return float(f"{value:.9g}")


def _incidence(titles: pl.Series) -> Iterator[sparse.csr_array]:
    """Of each dimension that titles state, which listing [n] states which value."""
    stated: dict[str, tuple[list[int], list[tuple[float, ...]]]] = {}
    for row, title in enumerate(titles.cast(pl.String).fill_null("").to_list()):
        for dimension, value in sorted(quantities(title)):
            rows, values = stated.setdefault(dimension, ([], []))
            rows.append(row)
            values.append(value)
    for rows, values in stated.values():
        codes: dict[tuple[float, ...], int] = {}
        columns: NDArray[np.int64] = np.array([codes.setdefault(v, len(codes)) for v in values])
        ones = np.ones(len(rows), dtype=np.int32)
        yield sparse.coo_array((ones, (rows, columns)), (len(titles), len(codes))).tocsr()
