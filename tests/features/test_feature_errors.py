import pytest

from features.errors import DataError, UserError, nearest, nearest_market


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


@pytest.mark.parametrize(
    ("market", "known", "hint"),
    [
        ("uk", ["GB", "UA"], "; did you mean 'GB'?"),
        ("GB", ["UK", "US"], "; did you mean 'UK'?"),
        ("EL", ["GR", "ES"], "; did you mean 'GR'?"),
        ("uk", ["GB", "UK"], "; did you mean 'UK'?"),
        ("UK", ["UA", "KR"], ""),
        ("Kr", ["UA", "KR"], "; did you mean 'KR'?"),
        ("Brasil", ["Brazil", "KR"], "; did you mean 'Brazil'?"),
    ],
)
def test_a_market_is_known_by_either_of_its_two_codes(
    market: str, known: list[str], hint: str
) -> None:
    assert nearest_market(market, known) == hint
