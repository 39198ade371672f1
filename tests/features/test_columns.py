import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.columns import ColumnSet, Lists, Occasions, ratio

NAN = float("nan")
VALUES = np.array([3.0, NAN, 1.0, 3.0, NAN, 5.0, 2.0, 4.0])
LISTS = Lists(np.array([0, 0, 0, 0, 1, 2, 2, 2]))


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        ("min", [1, 1, 1, 1, NAN, 2, 2, 2]),
        ("max", [3, 3, 3, 3, NAN, 5, 5, 5]),
        ("sum", [7, 7, 7, 7, 0, 11, 11, 11]),
        ("mean", [7 / 3, 7 / 3, 7 / 3, 7 / 3, NAN, 11 / 3, 11 / 3, 11 / 3]),
        ("median", [3, 3, 3, 3, NAN, 4, 4, 4]),
        ("rank", [1, NAN, 0, 1, NAN, 2, 0, 1]),
    ],
)
def test_statistics_of_a_list_leave_out_what_is_missing(
    statistic: str, expected: list[float]
) -> None:
    np.testing.assert_allclose(getattr(LISTS, statistic)(VALUES), expected)


def test_the_median_of_an_even_number_is_between() -> None:
    lists = Lists(np.array([0, 0, 1, 1, 1]))
    assert lists.median(np.array([1.0, 4.0, NAN, 2.0, 6.0])).tolist() == [2.5, 2.5, 4, 4, 4]


def test_no_rows_have_no_statistics() -> None:
    lists, nothing = Lists(np.zeros(0, np.int64)), np.zeros(0)
    for statistic in ("min", "max", "sum", "mean", "median", "rank"):
        assert getattr(lists, statistic)(nothing).shape == (0,)
    assert lists.place().shape == (0,)


def test_places_start_anew_in_every_list() -> None:
    assert LISTS.place().tolist() == [0, 1, 2, 3, 0, 0, 1, 2]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(1, 5)), max_size=30),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10)), min_size=1, max_size=10),
)
def test_occasions_before_a_place_are_counted_summed_and_found(
    happened: list[tuple[int, int, int]], asked: list[tuple[int, int]]
) -> None:
    key, place, value = np.array(happened, np.int64).reshape(-1, 3).T
    occasions = Occasions(key, place, 10)
    asked_key, asked_place = np.array(asked).T
    past = occasions.before(asked_key, asked_place)
    for row, (k, p) in enumerate(asked):
        inside = [(at, amount) for other, at, amount in happened if other == k and at < p]
        assert past.count[row] == len(inside)
        assert past.sum(occasions.running(value))[row] == sum(amount for _, amount in inside)
        assert past.first[row] == min((at for at, _ in inside), default=-1)
        assert past.last[row] == max((at for at, _ in inside), default=-1)


def test_a_ratio_to_nothing_is_unknown() -> None:
    np.testing.assert_array_equal(
        ratio(np.array([1.0, 0.0, 2.0]), np.array([2.0, 0.0, NAN])), [0.5, NAN, NAN]
    )


def test_a_number_beyond_float32_stays_finite() -> None:
    columns = ColumnSet()
    columns.number("huge", "context", "context", np.array([1e300, -1e300, NAN]))
    x = columns.number_matrix(3)[:, 0]
    assert x.dtype == np.float32
    assert np.isfinite(x[:2]).all()
    assert np.isnan(x[2])


def test_no_columns_make_a_matrix_of_width_zero() -> None:
    assert ColumnSet().number_matrix(3).shape == ColumnSet().category_matrix(3).shape == (3, 0)
