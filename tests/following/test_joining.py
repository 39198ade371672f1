from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.clickstream import build_clickstream
from features.schema import Tables
from purchase_predictor.errors import DataError
from purchase_predictor.following import joining
from purchase_predictor.following.joining import join, read_outcomes, read_scores
from tests.following.cases import MONDAY, write_scores


def write_outcomes(folder: Path, **columns: object) -> Path:
    n = 6
    given = {
        "impression_id": [f"i{number}" for number in range(n)],
        "session_id": ["s0", "s0", "s1", "s1", "s2", "s2"],
        "user_id": ["u0", "u0", "u0", "u0", None, None],
        "timestamp": [MONDAY + timedelta(minutes=number // 2) for number in range(n)],
        "market": ["KR", "KR", "KR", "US", "US", "US"],
        "converted": [True, False, False, None, True, False],
    }
    folder.mkdir()
    table = pl.DataFrame({k: v for k, v in (given | columns).items() if v is not None})
    table.write_parquet(folder / "impressions.parquet")
    return folder


def test_everything_is_joined_and_counted(tmp_path: Path) -> None:
    first = write_scores(
        tmp_path / "a.parquet", ["i0", "i1", "i3", "gone", "i2", "i2"],
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.5], flags=[["x", "y"], [], ["x"], [], [], []],
    )  # fmt: skip
    second = write_scores(
        tmp_path / "b.parquet", ["i0", "i4", None, "i1"], [0.9, 0.8, 0.5, 1.5], version="2"
    )
    scores = read_scores([first, second])
    outcomes = read_outcomes(write_outcomes(tmp_path / "data"), max_title_chars=100)

    found = join(scores, outcomes)

    assert [model.label for model in found.models] == ["fusion 1", "fusion 2"]
    assert found.happened()["impression_id"].to_list() == ["i0", "i1", "i2", "i4"]
    assert found.happened("fusion 1", "fusion 2")["impression_id"].to_list() == ["i0"]
    assert found.frame["fusion 1"].to_list() == [0.1, 0.2, 0.5, 0.3, None]
    counts = found.counts
    assert counts["scores"] == {
        "read": 10, "used": 7, "repeated": 1, "training_period": 0, "impressions": 6,
        "set_aside": {joining.NO_IMPRESSION: 1, joining.NO_PROBABILITY: 1},
    }  # fmt: skip
    assert (counts["joined"], counts["conversions"]) == (4, 2)
    assert counts["scores_not_in_outcomes"] == 1  # gone
    assert counts["scores_outcome_not_known"] == 1  # i3
    assert counts["outcomes_without_score"] == 1  # i5
    assert counts["scored_for_another_market"] == 2  # i3 and i4 were shown in the US
    assert found.flags.rows() == [
        ("fusion 1", "i0", "x"), ("fusion 1", "i0", "y"), ("fusion 1", "i3", "x"),
    ]  # fmt: skip


def test_rows_that_a_model_may_have_learned_are_left_out_unless_there_are_no_others(
    tmp_path: Path,
) -> None:
    learned, other = [joining.TRAINING_PERIOD], ["unseen_product"]
    files = [
        write_scores(
            tmp_path / "a.parquet", ["i0", "i1", "i2"], [0.1, 0.2, 0.3],
            flags=[learned, other, [*other, *learned]],
        ),
        write_scores(
            tmp_path / "b.parquet", ["i0", "i1"], [0.4, 0.5], version="2", flags=[learned] * 2
        ),
    ]  # fmt: skip

    scores = read_scores(files)

    assert scores.frame.select("model", "impression_id").rows() == [
        ("fusion 1", "i1"), ("fusion 2", "i0"), ("fusion 2", "i1"),
    ]  # fmt: skip
    assert scores.n_training_period == 2
    assert scores.only_learned == ("fusion 2",)
    assert scores.n_read == 5


def test_the_unit_is_the_user_where_known_else_the_session(tmp_path: Path) -> None:
    outcomes = read_outcomes(write_outcomes(tmp_path / "data"), max_title_chars=100)
    assert outcomes.frame["unit"].to_list() == ["user u0"] * 4 + ["session s2"] * 2


def test_lists_are_those_of_the_clickstream(tiny_folder: Path, tiny_tables: Tables) -> None:
    frame = read_outcomes(tiny_folder, max_title_chars=2000).frame
    known = pl.DataFrame(schema={"product_id": pl.String, "product": pl.Int64})
    shown = build_clickstream(tiny_tables, known, history=8).shown
    theirs = np.empty(len(frame), np.int64)
    theirs[shown.order] = shown.list_number

    pairs = set(zip(frame["list_number"].to_list(), theirs.tolist(), strict=True))

    assert len(pairs) == frame["list_number"].n_unique() == len(set(theirs))


def test_a_row_without_list_is_with_its_session_and_moment(tmp_path: Path) -> None:
    folder = write_outcomes(tmp_path / "data", propensity=[0.5, None, 0.5, 0.5, None, None])
    frame = read_outcomes(folder, max_title_chars=100).frame
    number = frame["list_number"].to_list()
    assert number[0] == number[1] != number[2] == number[3]
    assert frame["n_candidates"].to_list() == [1, 1, 2, 2, 0, 0]


def test_a_propensity_of_zero_is_counted(tmp_path: Path) -> None:
    folder = write_outcomes(tmp_path / "data", propensity=[0.0, 1.0, 0.5, 0.5, 0.5, 2.0])
    outcomes = read_outcomes(folder, max_title_chars=100)
    assert (outcomes.n_read, outcomes.bad_propensity, len(outcomes.frame)) == (6, 2, 4)
    assert sum(outcomes.set_aside.values()) == 2


def test_labels_are_unique(tmp_path: Path) -> None:
    file = write_scores(
        tmp_path / "a.parquet", ["i0", "i0", "i0"], [0.1, 0.2, 0.3],
        system=["a b", "a", "a b"], model_version=["c", "b c", None],
    )  # fmt: skip
    models = read_scores([file]).models
    assert [model.label for model in models] == ["a b c", "a b c (2)", "a b unknown"]


def test_two_probabilities_for_one_impression_are_refused(tmp_path: Path) -> None:
    file = write_scores(tmp_path / "a.parquet", ["i0", "i1", "i1"], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="fusion 1 gave 1 impressions two .* first 'i1'"):
        read_scores([file])


def test_files_without_market_and_flags_are_read(tmp_path: Path) -> None:
    file = write_scores(tmp_path / "a.parquet", ["i0", "i1"], [0, 1])
    pl.read_parquet(file).drop("market", "flags").write_parquet(file)
    frame = read_scores([file]).frame
    assert frame["probability"].to_list() == [0.0, 1.0]
    assert frame["flags"].to_list() == [[], []]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.rename({"probability": "probabilty"}), "did you mean 'probabilty'"),
        (lambda t: t.drop("model_version"), "have no column 'model_version'"),
        (lambda t: t.with_columns(probability=pl.lit("high")), "holds String, not numbers"),
        (lambda t: t.with_columns(probability=pl.lit(7.0)), "none of the 1 rows can be used"),
        (lambda t: t.clear(), "there are no rows"),
    ],
)
def test_scores_that_cannot_be_used(tmp_path: Path, change: object, sentence: str) -> None:
    file = write_scores(tmp_path / "a.parquet", ["i0"], [0.1])
    change(pl.read_parquet(file)).write_parquet(file)  # type: ignore[operator]
    with pytest.raises(DataError, match=sentence):
        read_scores([file])


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("impression_id,probability\n")
    with pytest.raises(DataError, match="is not a Parquet file of scores"):
        read_scores([tmp_path / "a.parquet"])
    with pytest.raises(DataError, match="there is no file of scores"):
        read_scores([tmp_path / "b.parquet"])


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"converted": None, "convertd": [True] * 6}, "no column 'converted'.*'convertd'"),
        ({"converted": pl.Series([None] * 6, dtype=pl.Boolean)}, "is empty in all"),
    ],
)
def test_outcomes_that_cannot_be_used(
    tmp_path: Path, columns: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_outcomes(write_outcomes(tmp_path / "data", **columns), max_title_chars=100)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (["x0", "x1"], "none of the 2 impressions scored is among the 6"),
        (["i3"], "none of the 1 impressions joined has an outcome yet"),
    ],
)
def test_scores_and_outcomes_that_never_meet(
    tmp_path: Path, ids: list[str], sentence: str
) -> None:
    scores = read_scores([write_scores(tmp_path / "a.parquet", ids, [0.5] * len(ids))])
    outcomes = read_outcomes(write_outcomes(tmp_path / "data"), max_title_chars=100)
    with pytest.raises(DataError, match=sentence):
        join(scores, outcomes)
