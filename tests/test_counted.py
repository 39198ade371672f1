"""Counts and the nouns after them."""

import pytest

from purchase_predictor.counted import Counted


@pytest.mark.parametrize(
    ("n", "told"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows")]
)
def test_the_noun_follows_the_number(n: int, told: str) -> None:
    assert f"{Counted(n):row|rows}" == told
    assert "{n:row|rows}".format(n=Counted(n)) == told  # noqa: UP032 - as reports do
    assert f"{Counted(n)}개" == f"{n:,}개"


def test_a_number_that_was_not_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="format specifier"):
        f"{3:row|rows}"
