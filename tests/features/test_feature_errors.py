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


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("uk", "; did you mean 'GB'?"),
        ("EL", "; did you mean 'GR'?"),
        ("Kr", "; did you mean 'KR'?"),
        ("UK", "; did you mean 'UA'?"),
    ],
)
def test_a_country_by_its_european_code_is_told_by_its_iso_code(name: str, hint: str) -> None:
    known = ["UA", "KR"] if name == "UK" else ["GB", "GR", "KR", "UA"]
    assert nearest(name, known) == hint
