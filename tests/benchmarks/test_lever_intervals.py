import polars as pl

from benchmarks.lever_intervals import count, table


def found() -> pl.DataFrame:
    rows = []
    for answer, reach in (("solved", 0.05), ("relaxed", 0.15), ("both", 0.2)):
        for market, conversions in (("KR", 2000), ("FR", 10)):
            rows += [
                (market, conversions, "phrase", phrase, answer, middle - reach, middle + reach)
                for phrase, middle in (("limited_quantity", 0.6), ("gift", 0.1))
            ]
    columns = ["market", "conversions", "lever", "phrase", "answer", "low", "high"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_effects_are_counted_by_answer_and_large_ones_where_there_are_many_conversions() -> None:
    truth = pl.DataFrame(
        {
            "market": ["KR", "KR", "FR", "FR"], "lever": ["phrase"] * 4,
            "phrase": ["limited_quantity", "gift"] * 2, "planted": [0.7, 0.0, 0.7, 0.0],
        }
    )  # fmt: skip
    solved, relaxed, both = count(found(), truth)
    assert [solved["large"], relaxed["large"], both["large"]] == [(0, 1), (1, 1), (1, 1)]
    assert [solved["all"], relaxed["all"], both["all"]] == [(0, 4), (4, 4), (4, 4)]
    assert [solved["null_taken"], relaxed["null_taken"]] == [(2, 2), (0, 2)]
    cells = table([{"data": name, "answers": [solved, relaxed, both]} for name in "ab"])
    assert cells[0] == ["a", "solved", "0 of 4", "0 of 1", "2 of 2"]
    assert cells[-1] == ["all", "both", "8 of 8", "2 of 2", "0 of 4"]
