import pytest

from benchmarks.growth import exponent, rows_of_table

ROWS = (30_000, 120_000, 480_000)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_exponent_is_the_power_of_the_rows(power: float) -> None:
    assert exponent(ROWS, [3.0 * n**power for n in ROWS]) == pytest.approx(power, abs=1e-9)


def test_one_size_has_no_exponent() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        exponent([100], [1.0])


def test_table_ends_each_phase_with_its_exponents() -> None:
    figures = {"train": {str(n): {"seconds": n / 1e4, "peak_bytes": 2e9} for n in ROWS}}

    table = rows_of_table(figures)

    assert [row["rows"] for row in table] == [*ROWS, "exponent"]
    assert table[0]["rows_per_second"] == pytest.approx(1e4)
    assert table[-1]["seconds"] == pytest.approx(1.0)
    assert table[-1]["peak_gb"] == pytest.approx(0.0)
