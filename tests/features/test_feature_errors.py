import pytest

from features.errors import DataError, UserError, nearest


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("market", "; did you mean 'MARKET'?"),
        ("discount", "; did you mean 'discount_rate'?"),
        ("xyz", ""),
    ],
)
def test_nearest_known_name_whatever_its_case(name: str, hint: str) -> None:
    assert nearest(name, ["MARKET", "discount_rate"]) == hint


def test_bad_data_is_an_error_of_the_user() -> None:
    assert issubclass(DataError, UserError)
