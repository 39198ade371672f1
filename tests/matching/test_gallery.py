from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.matching.gallery import (
    UNUSED,
    draw_galleries,
    fold,
    halve_galleries,
    joined_groups,
    match_truth,
    split_listings,
    whole_groups,
)

FOLDS = {"1": 1, "2": 2, "3": 3, "249114794": 4, "a": 7, "": 6}
"""MD5 as an integer modulo ten, worked out with bc."""


def listings(
    groups: list[str | None], hashes: list[str | None] | None = None, start: int = 0
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "product_id": [f"p{start + number}" for number in range(len(groups))],
            "match_group": groups,
            "image_hash": hashes or [None] * len(groups),
        },
        schema=dict.fromkeys(("product_id", "match_group", "image_hash"), pl.String),
    )


def key_in(folds: tuple[int, ...], number: int = 0) -> str:
    """The `number`-th name g0, g1, … that falls into one of the folds."""
    names = (f"g{place}" for place in range(10_000))
    return [name for name in names if fold(name) in folds][number]


def market(n_groups: int = 300, seed: int = 0) -> pl.DataFrame:
    """Groups of one to six listings, some of which share a picture, and listings without one."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 7, n_groups))
    names = [None if rng.random() < 0.1 else f"g{group}" for group in groups]
    hashes = [f"{code:016x}" if code < 400 else None for code in rng.integers(0, 2000, len(names))]
    return listings(names, hashes)


@pytest.mark.parametrize(("key", "expected"), FOLDS.items())
def test_a_fold_is_the_md5_of_the_key_modulo_ten(key: str, expected: int) -> None:
    assert fold(key) == expected


def test_groups_that_share_a_picture_are_one_under_the_smallest_name() -> None:
    products = listings(
        ["30", "30", "9", "9", "100", "7"],
        ["a" * 16, "b" * 16, "b" * 16, "c" * 16, "c" * 16, None],
    )

    joined = joined_groups(products)

    # 30 - b - 9 - c - 100: one group, though 30 and 100 share no picture
    assert joined.key.tolist() == ["9", "9", "9", "9", "9", "7"]
    assert joined.grouped.all()


@pytest.mark.parametrize(
    ("groups", "smallest"),
    [
        (["100", "9"], "9"),
        (["-1", "0"], "-1"),
        (["100", "9", "x"], "100"),
        (["12345678901234567890123", "9"], "9"),
        (["B", "a"], "B"),
        (["1.5", "1"], "1"),
        (["", "1"], ""),
    ],
)
def test_numbers_are_ordered_as_numbers_only_where_all_are(
    groups: list[str], smallest: str
) -> None:
    hashes = ["a" * 16, "a" * 16, None][: len(groups)]

    joined = joined_groups(listings(groups, hashes))

    assert joined.key[:2].tolist() == [smallest] * 2


def test_equal_picture_files_join_beside_equal_hashes() -> None:
    products = listings(["1", "2", "3", "4"], ["a" * 16, "a" * 16, None, None])
    digests = pl.Series([None, "x", "x", "y"])

    assert joined_groups(products).key.tolist() == ["1", "1", "3", "4"]
    assert joined_groups(products, digests=digests).key.tolist() == ["1", "1", "1", "4"]


def test_a_hash_and_a_digest_that_read_alike_do_not_join() -> None:
    products = listings(["1", "2"], ["a" * 16, None])

    joined = joined_groups(products, digests=pl.Series([None, "a" * 16]))

    assert joined.key.tolist() == ["1", "2"]


def test_a_listing_without_a_group_is_its_own_and_joins_nobody() -> None:
    products = listings([None, "1", None, "2"], ["a" * 16] * 4)

    joined = joined_groups(products)

    assert joined.key.tolist() == ["p0", "1", "p2", "1"]
    assert joined.grouped.tolist() == [False, True, False, True]


def test_no_match_groups_at_all_leave_every_listing_its_own() -> None:
    joined = joined_groups(listings([None, None]), digests=pl.Series(["x", "x"]))

    assert joined.key.tolist() == ["p0", "p1"]
    assert not joined.grouped.any()


@pytest.mark.parametrize("n", [1, 3])
def test_another_number_of_digests_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=r"digests must be \[2\]"):
        joined_groups(listings(["1", "2"]), digests=pl.Series(["x"] * n))


def test_parts_follow_the_folds_of_the_joined_groups() -> None:
    products = market()

    split = split_listings(products)

    parts = {8: "test", 9: "test", 6: "validation", 7: "validation"}
    expected = [parts.get(fold(key), "train") for key in joined_groups(products).key]
    assert split.part.tolist() == expected
    assert set(expected) == {"train", "validation", "test"}
    assert np.array_equal(split.training, split.part == "train")


def test_no_joined_group_and_no_match_group_is_torn() -> None:
    products = market()

    split = split_listings(products)

    frame = products.with_columns(part=pl.Series(split.part.tolist()), key=pl.Series(split.key))
    assert joined_groups(products).key.tolist() != products["match_group"].to_list()
    for column in ("match_group", "key"):
        torn = frame.drop_nulls(column).group_by(column).agg(pl.col("part").n_unique())
        assert torn["part"].to_list() == [1] * len(torn)
    pictures = frame.drop_nulls(["match_group", "image_hash"]).group_by("image_hash")
    assert pictures.agg(pl.col("part").n_unique())["part"].max() == 1


def test_truth_is_the_match_group_not_the_joined_one() -> None:
    products = listings(["2", "1", "2", None, None, "1"], ["a" * 16] * 6)

    split = split_listings(products)

    assert len(set(split.key[split.grouped])) == 1
    same = split.truth[:, None] == split.truth
    assert same.tolist() == [
        [first == second and first is not None or row == column
         for column, second in enumerate(products["match_group"])]
        for row, first in enumerate(products["match_group"])
    ]  # fmt: skip
    assert split.truth.dtype == np.int64


def test_only_eligible_listings_train_and_other_parts_stay() -> None:
    products = market()
    eligible = np.random.default_rng(1).random(len(products)) < 0.5

    split = split_listings(products, eligible=eligible)
    free = split_listings(products)

    assert np.array_equal(split.training, free.training & eligible)
    assert set(split.part[free.training & ~eligible]) == {"unused"}
    for part in ("validation", "test"):
        assert np.array_equal(split.part == part, free.part == part)


@pytest.mark.parametrize("eligible", [np.ones(1, np.bool_), np.ones(2, np.int8)])
def test_a_mask_of_another_shape_or_type_is_refused(eligible: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"eligible must be bool \[2\]"):
        split_listings(listings(["1", "2"]), eligible=eligible)


def test_whole_groups_come_in_the_order_of_their_md5_and_stop_before_the_size() -> None:
    # MD5 of a is 0cc1…, of b 92eb…, of c 4a8a…, of d 8277…
    names = ["a", "c", "d", "b"]
    keys = np.array([names[0]] * 2 + [names[1]] * 3 + [names[2]] + [names[3]] * 4, object)
    rows = np.arange(10)

    drawn = {size: whole_groups(keys, rows, size=size).tolist() for size in range(11)}

    assert drawn[1] == []
    assert drawn[2] == drawn[4] == [0, 1]
    assert drawn[5] == [0, 1, 2, 3, 4]
    # the group of one fits, the next of four does not until there is room for all of it
    assert drawn[6] == drawn[9] == [0, 1, 2, 3, 4, 5]
    assert drawn[10] == drawn[0] == list(range(10))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40),
    st.integers(1, 45), st.integers(1, 45), st.randoms(),
)  # fmt: skip
def test_a_smaller_draw_is_whole_nested_and_the_same_in_any_order(
    names: list[str], first: int, second: int, random: Random
) -> None:
    keys = np.array(names, object)
    rows = np.flatnonzero(np.arange(len(keys)) % 5 != 4)
    shuffled = rows.copy()
    random.shuffle(shuffled)

    small, large = (whole_groups(keys, rows, size=size) for size in sorted((first, second)))

    assert len(small) <= min(first, second)
    assert set(small) <= set(large)
    assert set(keys[small]).isdisjoint(keys[np.setdiff1d(rows, small)])
    assert np.array_equal(whole_groups(keys, shuffled, size=max(first, second)), large)


def test_one_gallery_of_a_part_scores_its_listings_with_a_group() -> None:
    split = split_listings(market())
    inside = split.part == "validation"

    (gallery,) = draw_galleries(split, "validation")

    assert np.array_equal(gallery.rows, np.flatnonzero(inside))
    assert np.array_equal(gallery.scored, split.grouped[inside])
    assert 0 < gallery.scored.sum() < len(gallery)
    assert np.array_equal(gallery.truth, split.truth[inside])
    assert np.array_equal(gallery.key, split.key[inside])


@pytest.mark.parametrize("size", [25, 60])
def test_galleries_are_filled_with_whole_groups_as_often_as_they_last(size: int) -> None:
    split = split_listings(market())
    inside = np.flatnonzero(split.part == "test")

    galleries = draw_galleries(split, "test", size=size)

    rows = np.concatenate([gallery.rows for gallery in galleries])
    largest_group = np.unique(split.key[inside], return_counts=True)[1].max()
    assert len(galleries) > 1
    assert len(set(rows)) == len(rows)
    assert set(rows) < set(inside)
    for gallery in galleries:
        # full: the next group did not fit
        assert size - largest_group < len(gallery) <= size
        outside = np.setdiff1d(inside, gallery.rows)
        assert set(gallery.key).isdisjoint(split.key[outside])
        assert np.array_equal(gallery.scored, split.grouped[gallery.rows])
    # what is left would not fill another one
    assert len(inside) - len(rows) <= size


def test_what_is_left_of_a_part_is_dropped_however_much_it_is() -> None:
    names = [key_in((8, 9), number) for number in range(3)]
    split = split_listings(listings([name for name in names for _ in range(4)]))

    galleries = draw_galleries(split, "test", size=11)

    # two groups of four fill the first gallery; the third alone would be an easier one
    assert [len(gallery) for gallery in galleries] == [8]


def test_a_part_that_does_not_fill_a_gallery_is_padded_by_unused_listings_alone() -> None:
    products = market()
    early = np.random.default_rng(2).random(len(products)) < 0.7
    split = split_listings(products, eligible=early)
    inside, unused = np.flatnonzero(split.part == "test"), split.part == UNUSED

    (padded,) = draw_galleries(split, "test", padded_to=len(inside) + 40)
    (plain,) = draw_galleries(split, "test", size=len(inside) + 40)

    padding = np.setdiff1d(padded.rows, inside)
    assert unused.sum() > 40
    assert 20 < len(padding) <= 40
    assert unused[padding].all()
    assert np.array_equal(padded.rows[padded.scored], inside[split.grouped[inside]])
    assert not set(padded.truth[padded.scored]) & set(split.truth[padding])
    # it is padded where that is asked for, not because a size is larger than the part
    assert np.array_equal(plain.rows, inside)


@pytest.mark.parametrize("size", [0, 10_000])
def test_padding_ends_with_the_unused_listings(size: int) -> None:
    products = market()
    split = split_listings(products, eligible=np.arange(len(products)) % 3 > 0)

    (gallery,) = draw_galleries(split, "validation", size=size, padded_to=10_000)

    unseen = (split.part == UNUSED) & ~np.isin(
        split.key.astype(str), split.key[split.training].astype(str)
    )
    assert 0 < unseen.sum() < (split.part == UNUSED).sum()
    assert len(gallery) == ((split.part == "validation") | unseen).sum()


def test_without_unused_listings_a_size_beyond_the_part_is_the_part() -> None:
    split = split_listings(market())

    (gallery,) = draw_galleries(split, "test", size=10_000, padded_to=20_000)

    assert np.array_equal(gallery.rows, np.flatnonzero(split.part == "test"))


def test_padding_is_for_a_single_gallery_alone() -> None:
    products = market()
    split = split_listings(products, eligible=np.zeros(len(products), np.bool_))

    galleries = draw_galleries(split, "test", size=30, padded_to=90)

    assert len(galleries) > 1
    assert all(len(gallery) <= 30 for gallery in galleries)
    assert {part for gallery in galleries for part in split.part[gallery.rows]} == {"test"}


def test_halving_keeps_every_listing_and_nests() -> None:
    split = split_listings(market())
    whole = np.flatnonzero(split.part == "test")

    steps = halve_galleries(split, "test", smallest=len(whole) // 9)

    assert [len(step) for step in steps] == [1, 2, 4, 8]
    for step in steps:
        rows = np.concatenate([gallery.rows for gallery in step])
        assert np.array_equal(np.sort(rows), whole)
        keys = [set(gallery.key) for gallery in step]
        assert sum(map(len, keys)) == len(set().union(*keys))
        for gallery in step:
            assert np.array_equal(gallery.scored, split.grouped[gallery.rows])
    for larger, smaller in zip(steps, steps[1:], strict=False):
        for gallery in smaller:
            (around,) = [other for other in larger if set(gallery.rows) & set(other.rows)]
            assert set(gallery.rows) < set(around.rows)


def test_halving_makes_galleries_of_about_half_the_size() -> None:
    split = split_listings(market())
    n = np.count_nonzero(split.part == "test")

    _, halves, quarters = halve_galleries(split, "test", smallest=n // 4)[:3]

    # a group is never torn, so a gallery is off by less than the largest group
    assert all(abs(len(gallery) - n / 2) < 20 for gallery in halves)
    assert all(abs(len(gallery) - n / 4) < 20 for gallery in quarters)


def test_halving_stops_before_galleries_are_too_small() -> None:
    split = split_listings(market())
    n = np.count_nonzero(split.part == "test")

    assert len(halve_galleries(split, "test", smallest=n)) == 1
    assert len(halve_galleries(split, "test", smallest=n // 2)) == 2
    assert len(halve_galleries(split, "test", smallest=n // 2 + 1)) == 1


def test_halving_a_single_group_leaves_it_whole() -> None:
    split = split_listings(listings([key_in((8, 9))] * 6))

    steps = halve_galleries(split, "test", smallest=2)

    assert [[len(gallery) for gallery in step] for step in steps] == [[6], [6]]


def test_a_gallery_of_one() -> None:
    split = split_listings(listings([key_in((8, 9)), key_in((0,))]))

    for galleries in (
        draw_galleries(split, "test", size=1),
        draw_galleries(split, "test"),
        *halve_galleries(split, "test", smallest=2),
    ):
        (gallery,) = galleries
        assert (gallery.rows.tolist(), gallery.scored.tolist(), len(gallery)) == ([0], [True], 1)


@pytest.mark.parametrize(
    ("part", "options", "error", "message"),
    [
        ("validation", {}, DataError, "No listing of the validation part has a match group"),
        ("test", {"size": 1}, DataError, "No gallery of 1 listings of the test part"),
        ("test", {"size": -1}, SettingsError, "must be 0"),
        ("rest", {}, SettingsError, "one of train, validation, test"),
    ],
)
def test_a_gallery_that_cannot_be_is_one_sentence(
    part: str, options: dict[str, int], error: type[Exception], message: str
) -> None:
    name = key_in((8, 9))
    split = split_listings(listings([name, name, None, key_in((1,))]))

    with pytest.raises(error, match=message):
        draw_galleries(split, part, **options)


def test_truth_numbers_the_groups_and_tells_the_rest_apart() -> None:
    truth = match_truth(pl.Series(["b", None, "a", "b", None], dtype=pl.String))

    assert truth[0] == truth[3]
    assert len(set(truth.tolist())) == 4


def test_a_group_larger_than_the_size_is_left_out_and_ends_nothing() -> None:
    huge, small = key_in((8, 9)), [key_in((8, 9), number) for number in range(1, 9)]
    products = listings([huge] * 20 + [name for name in small for _ in range(3)])
    split = split_listings(products)

    galleries = draw_galleries(split, "test", size=9)

    assert [len(gallery) for gallery in galleries] == [9, 9]
    assert huge not in {key for gallery in galleries for key in gallery.key}


def test_what_pads_is_of_groups_that_no_encoder_saw() -> None:
    names = [key_in((0, 1, 2, 3, 4, 5), number) for number in range(6)]
    held_out = [key_in((6, 7), number) for number in range(3)]
    products = listings([name for name in [*names, *held_out] for _ in range(2)])
    eligible = np.ones(len(products), np.bool_)
    eligible[[1, 3, 4, 5, 6, 7]] = False  # one of two listings of two groups, both of two others
    split = split_listings(products, eligible=eligible)

    (gallery,) = draw_galleries(split, "validation", padded_to=20)

    padding = set(gallery.key[~gallery.scored])
    assert padding == {names[2], names[3]}
