from pathlib import Path

import numpy as np
import pytest

from features.culture import check_further, load_profiles, standardise
from features.errors import DataError


def test_every_market_of_the_file_has_six_dimensions() -> None:
    profiles = load_profiles()
    assert len(profiles) == 23
    assert profiles["KR"] == {"PDI": 60, "IDV": 18, "MAS": 39, "UAI": 85, "LTO": 100, "IVR": 29}
    assert {tuple(values) for values in profiles.values()} == {tuple(profiles["KR"])}


def test_dimensions_are_standardised_over_all_markets() -> None:
    dimensions, scaled = standardise(load_profiles())
    table = np.array(list(scaled.values()))
    assert dimensions == ("PDI", "IDV", "MAS", "UAI", "LTO", "IVR")
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(table.std(axis=0), 1, atol=1e-6)
    assert scaled["US"][1] == table[:, 1].max()


def test_a_missing_dimension_is_unknown_and_a_constant_one_zero() -> None:
    dimensions, scaled = standardise({"A": {"x": 1, "y": 5}, "B": {"x": 3}, "C": {"y": 5}})
    assert dimensions == ("x", "y")
    np.testing.assert_array_equal(scaled["A"], [-1, 0])
    np.testing.assert_array_equal(scaled["B"], [1, np.nan])
    np.testing.assert_array_equal(scaled["C"], [np.nan, 0])


def test_no_profiles_have_no_dimensions() -> None:
    assert standardise({}) == ((), {})


def test_a_file_of_ones_own_may_have_other_markets_and_dimensions(tmp_path: Path) -> None:
    file = tmp_path / "markets.yaml"
    file.write_text("markets:\n  north: {dimensions: {income: 1.5}}\n  south: {name: South}\n")
    assert load_profiles(file) == {"north": {"income": 1.5}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("markets: [KR]", "must hold keys and values"),
        ("countries: {}", "must have a section 'markets'"),
        ("markets: {KR: 5}", "market KR"),
        ("markets: {KR: {dimensions: {PDI: high}}}", "PDI of market KR is 'high'"),
        ("markets: {KR: {dimensions: {PDI: .nan}}}", "PDI of market KR is nan"),
        ("markets: {KR: {dimension: {PDI: 1}}}", "unknown key 'dimension'; did you mean 'dimen"),
        ("markets: {NO: {dimensions: {PDI: 1}}}", "put it in quotes"),
        ("markets: {KR: {dimensions", "not a YAML file"),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "markets.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        load_profiles(file)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.yaml cannot be read"):
        load_profiles(tmp_path / "nowhere.yaml")


def test_a_market_that_comes_later_lies_on_the_scale_of_the_others() -> None:
    known = {"A": {"x": 1.0}, "B": {"x": 3.0}}
    dimensions, scaled = standardise(known, {"C": {"x": 5.0}, "A": {"x": 9.0}})
    assert dimensions == ("x",)
    assert {name: values.tolist() for name, values in scaled.items()} == {
        "C": [3], "A": [-1], "B": [1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("further", "said"),
    [
        ({"C": {"x": 1.0, "yy": 2.0}}, "dimension 'yy', which .* did you mean 'y'"),
        ({"C": {"x": 1.0}}, "lacks the dimensions y"),
    ],
)
def test_a_later_profile_that_the_model_cannot_read_is_refused(
    further: dict[str, dict[str, float]], said: str
) -> None:
    with pytest.raises(DataError, match=f"mine.yaml: market .*{said}"):
        check_further({"A": {"x": 1.0, "y": 2.0}}, further, "mine.yaml")
