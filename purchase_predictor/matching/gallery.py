"""Which listings train, tune and test: whole groups, and the galleries they are matched in.

Match groups whose listings share a picture are told apart by nothing that an encoder sees, so they
stay together: the **joined group** decides the part a listing is in and the gallery it is drawn
into. What counts as a match, the truth of F1, is the match group itself.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from features.rules import SPLITS
from purchase_predictor.errors import DataError, SettingsError

N_FOLDS = 10
TEST_FOLDS, VALIDATION_FOLDS = (8, 9), (6, 7)
"""Folds of `fold`; the rest is training."""

UNUSED = "unused"
"""The part of a listing that would be in training but may not train an encoder."""

_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class JoinedGroups:
    """The joined group of each listing.

    Attributes:
        key: str [n], the smallest match group joined in it; of a listing without a match group
            its product id.
        grouped: bool [n], whether the listing has a match group.
    """

    key: NDArray[np.object_]
    grouped: NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """The part of each listing.

    Attributes:
        part: str [n], one of `train`, `validation`, `test` and `UNUSED`.
        key: str [n], the joined group, never in two parts but for `UNUSED` beside `train`.
        truth: int64 [n], equal where listings have the same match group; a listing without one
            has a number of its own.
        grouped: bool [n], whether the listing has a match group.
    """

    part: NDArray[np.str_]
    key: NDArray[np.object_]
    truth: NDArray[np.int64]
    grouped: NDArray[np.bool_]

    @property
    def training(self) -> NDArray[np.bool_]:
        """The listings that encoders may be trained on: bool [n]."""
        return self.part == "train"


@dataclass(frozen=True)
class Gallery:
    """Listings that are matched with one another.

    Attributes:
        rows: int64 [m], their rows in the catalogue, ascending.
        truth: int64 [m], equal where listings have the same match group.
        key: str [m], the joined groups, by which intervals resample.
        scored: bool [m], the listings over which F1 is averaged; the others are distractors.
    """

    rows: NDArray[np.int64]
    truth: NDArray[np.int64]
    key: NDArray[np.object_]
    scored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)


def fold(key: str) -> int:
    """The fold of a joined group, 0 to 9: the MD5 of its key as an integer, modulo ten."""
    return int(_md5(key), 16) % N_FOLDS


def joined_groups(products: pl.DataFrame, *, digests: pl.Series | None = None) -> JoinedGroups:
    """Join match groups that share a picture, directly or through further groups.

    Args:
        products: `product_id, match_group, image_hash`.
        digests: of each listing's picture file, null where there is none; equal ones join too.

    Returns:
        The joined group of each listing, keyed by its smallest match group: in numeric order if
        all match groups of the catalogue are integers, else in the order of their code points.

    Raises:
        ValueError: if there is not one digest a listing.
    """
    if digests is not None and len(digests) != len(products):
        raise ValueError(f"digests must be [{len(products)}], got [{len(digests)}]")
    groups = products["match_group"]
    names = _in_order(groups.drop_nulls().unique().to_list())
    number = {name: place for place, name in enumerate(names)}
    grouped = groups.is_not_null().to_numpy()
    codes = np.array([number[name] for name in groups.drop_nulls()], np.int64)
    pictures = [products["image_hash"], *([] if digests is None else [digests])]
    component = _components(codes, len(names), [p.filter(pl.Series(grouped)) for p in pictures])
    _, smallest = np.unique(component, return_index=True)
    key = products["product_id"].to_numpy().astype(object)
    key[grouped] = np.array(names, object)[smallest[component[codes]]]
    return JoinedGroups(key, grouped)


def split_listings(
    products: pl.DataFrame,
    *,
    digests: pl.Series | None = None,
    eligible: NDArray[np.bool_] | None = None,
) -> Split:
    """Divide a catalogue by joined group: folds 8 and 9 test, 6 and 7 validate, the rest train.

    Args:
        products: `product_id, match_group, image_hash`.
        digests: of each listing's picture file, see `joined_groups`.
        eligible: bool [n], the listings that may train: those of the training period, where the
            encoders feed purchase prediction. None: all.

    Returns:
        The parts; a listing of a training fold that is not eligible is `UNUSED`.

    Raises:
        ValueError: if `eligible` or `digests` do not have one entry a listing.
    """
    n_listings = len(products)
    if eligible is not None and (eligible.shape != (n_listings,) or eligible.dtype != np.bool_):
        raise ValueError(f"eligible must be bool [{n_listings}], got {eligible.shape}")
    joined = joined_groups(products, digests=digests)
    names, of_listing = np.unique(joined.key, return_inverse=True)
    by_fold = np.full(N_FOLDS, SPLITS[0], dtype="U10")
    by_fold[list(VALIDATION_FOLDS)], by_fold[list(TEST_FOLDS)] = SPLITS[1:]
    folds = np.array([fold(name) for name in names], np.int64)
    part = by_fold[folds[of_listing]]
    if eligible is not None:
        part[(part == SPLITS[0]) & ~eligible] = UNUSED
    return Split(part, joined.key, match_truth(products["match_group"]), joined.grouped)


def match_truth(groups: pl.Series) -> NDArray[np.int64]:
    """Number the match groups; a listing without one is its own.

    Args:
        groups: match group of each listing, null where there is none.

    Returns:
        int64 [n], equal where the groups are.
    """
    codes = groups.rank("dense").cast(pl.Int64)
    alone = pl.int_range(len(groups), dtype=pl.Int64, eager=True) + len(groups) + 1
    return codes.fill_null(alone).to_numpy()


def whole_groups(
    keys: NDArray[np.object_], rows: NDArray[np.int64], *, size: int = 0
) -> NDArray[np.int64]:
    """Draw whole joined groups until the next one would exceed a size.

    The groups come in the order of their keys' MD5, whatever the order of the listings, so that
    a smaller draw is part of a larger one from the same rows.

    Args:
        keys: str [n], the joined group of each listing of the catalogue.
        rows: int64 [m], the listings to draw from.
        size: listings at most; 0 draws all.

    Returns:
        int64, the rows drawn, ascending; none where the first group alone is larger.

    Raises:
        SettingsError: if the size is negative.
    """
    if size < 0:
        raise SettingsError(f"The size of a gallery must be 0 (all) or more, not {size}.")
    if size == 0:
        return np.sort(rows)
    names, of_row, counts = np.unique(keys[rows], return_inverse=True, return_counts=True)
    order = sorted(range(len(names)), key=lambda place: _md5(str(names[place])))
    n_groups = int(np.searchsorted(np.cumsum(counts[order]), size, side="right"))
    drawn = np.zeros(len(names), np.bool_)
    drawn[order[:n_groups]] = True
    return np.sort(rows[drawn[of_row]])


def draw_galleries(split: Split, part: str, *, size: int = 0, padded_to: int = 0) -> list[Gallery]:
    """Fill galleries with the whole joined groups of a part, as often as they last.

    Listings with a match group are scored; those without one are distractors. What is left when
    the last gallery of the size is full is dropped, since a smaller gallery is an easier one; so
    is a joined group that is larger than the size by itself.
    A part that does not fill one is a single gallery; what pads it, where that is asked for, are
    listings that no encoder was trained on although their fold is a training one (`UNUSED`).

    Args:
        split: of `split_listings`.
        part: `train`, `validation` or `test`.
        size: listings of a gallery at most; 0 is one gallery of the whole part.
        padded_to: distractors are added to a single gallery of the part up to so many listings.

    Returns:
        The galleries, of different listings; at least one.

    Raises:
        DataError: if no listing of the part can be scored.
        SettingsError: if the part is none, or the size is negative.
    """
    if part not in SPLITS:
        raise SettingsError(f"The part of a gallery is one of {', '.join(SPLITS)}, not '{part}'.")
    left = np.flatnonzero(split.part == part)
    if not split.grouped[left].any():
        raise DataError(
            f"No listing of the {part} part has a match group, so no {part} gallery can be "
            "scored: it takes more match groups (match_group of products)."
        )
    if size == 0 or size >= len(left):
        spare = max(padded_to - len(left), 0)
        trained = np.unique(split.key[split.training].astype(str))
        unseen = np.flatnonzero((split.part == UNUSED) & ~np.isin(split.key.astype(str), trained))
        padding = whole_groups(split.key, unseen, size=spare) if spare else unseen[:0]
        return [_gallery(split, np.union1d(left, padding), part)]
    _, group, counts = np.unique(
        split.key[left].astype(str), return_inverse=True, return_counts=True
    )
    left = left[counts[group] <= size]
    galleries: list[Gallery] = []
    drawn = whole_groups(split.key, left, size=size)
    while len(drawn) and (not galleries or len(drawn) < len(left)):
        galleries.append(_gallery(split, drawn, part))
        left = np.setdiff1d(left, drawn, assume_unique=True)
        drawn = whole_groups(split.key, left, size=size)
    galleries = [gallery for gallery in galleries if gallery.scored.any()]
    if not galleries:
        raise DataError(
            f"No gallery of {size} listings of the {part} part holds a match group, since whole "
            "groups are drawn: give larger galleries (ladder.galleries)."
        )
    return galleries


def halve_galleries(split: Split, part: str, *, smallest: int) -> list[list[Gallery]]:
    """The whole part as one gallery, then as two, four, … of about half the size each time.

    Every listing is in a gallery at each step, and what it is matched with at one step contains
    what it is matched with at the next: the same listings are scored against ever fewer
    distractors, so that steps can be compared.

    Args:
        split: of `split_listings`.
        part: `train`, `validation` or `test`.
        smallest: no step has galleries of fewer listings than this on average.

    Returns:
        A list of galleries for each step, the largest first.
    """
    whole = draw_galleries(split, part)[0]
    names, group, counts = np.unique(
        whole.key.astype(str), return_inverse=True, return_counts=True
    )
    order = sorted(range(len(names)), key=lambda place: _md5(str(names[place])))
    before = np.zeros(len(names))
    before[order] = np.cumsum(counts[order]) - counts[order]
    place = (before / len(whole))[group]
    steps, n_galleries = [[whole]], 2
    while len(whole) / n_galleries >= smallest:
        at = np.floor(place * n_galleries).astype(np.int64)
        step = [_gallery(split, whole.rows[at == number], part) for number in range(n_galleries)]
        steps.append([gallery for gallery in step if len(gallery)])
        n_galleries *= 2
    return steps


def _gallery(split: Split, rows: NDArray[np.int64], part: str) -> Gallery:
    scored = split.grouped[rows] & (split.part[rows] == part)
    return Gallery(rows, split.truth[rows], split.key[rows], scored)


def _md5(key: str) -> str:
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


def _in_order(names: Iterable[str]) -> list[str]:
    """Match groups as numbers where all are integers, else as texts."""
    names = list(names)
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _components(
    codes: NDArray[np.int64], n_groups: int, pictures: Iterable[pl.Series]
) -> NDArray[np.int64]:
    """Component of each match group: groups and pictures are nodes, a listing joins its two."""
    starts, ends, n_nodes = [codes[:0]], [codes[:0]], n_groups
    for picture in pictures:
        there = picture.is_not_null().to_numpy()
        distinct = picture.drop_nulls().rank("dense").cast(pl.Int64).to_numpy() - 1
        starts.append(codes[there])
        ends.append(distinct + n_nodes)
        n_nodes += int(distinct.max(initial=-1)) + 1
    start, end = np.concatenate(starts), np.concatenate(ends)
    edges = csr_array((np.ones(len(start)), (start, end)), shape=(n_nodes, n_nodes))
    return connected_components(edges, directed=False)[1][:n_groups].astype(np.int64)
