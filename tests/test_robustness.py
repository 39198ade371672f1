"""Bad inputs end in a sentence or in rows set aside; `benchmarks/robustness.py` has more."""

import io
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.bad_inputs import bomb, every_case
from benchmarks.robustness import FAULT, REFUSED, SCORED, SET_ASIDE, small, tried
from features.checking import check_table
from features.reading import read_folder
from features.rules import Impressions
from purchase_predictor.checkpoint import read_folder as read_model_folder
from purchase_predictor.encoders.pictures import PictureReader
from purchase_predictor.errors import DataError, ModelFolderError

fuzzed = settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
GOOD = pl.DataFrame(
    {
        "impression_id": [f"i{n}" for n in range(8)],
        "session_id": ["s"] * 8,
        "timestamp": ["2024-03-01T10:00:00Z"] * 8,
        "market": ["KR"] * 8,
        "price": [1.0] * 8,
        "discount_rate": [0.1] * 8,
        "free_shipping": [True] * 8,
    }
)
TEXTS = st.one_of(
    st.none(), st.text(max_size=12), st.floats().map(str), st.integers().map(str),
    st.datetimes().map(str), st.sampled_from(["", "NaN", "inf", "-1", "1e400", "true", "null"]),
)  # fmt: skip
VALUES = st.one_of(
    st.lists(TEXTS, min_size=8, max_size=8).map(lambda v: pl.Series(v, dtype=pl.String)),
    st.lists(st.none() | st.floats(), min_size=8, max_size=8).map(
        lambda v: pl.Series(v, dtype=pl.Float64)
    ),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8).map(
        lambda v: pl.Series(v, dtype=pl.Int64)
    ),
    st.lists(st.none() | st.booleans(), min_size=8, max_size=8).map(
        lambda v: pl.Series(v, dtype=pl.Boolean)
    ),
)


@fuzzed
@given(column=st.sampled_from(GOOD.columns), values=VALUES)
def test_whatever_a_column_holds_rows_are_used_or_set_aside(
    column: str, values: pl.Series
) -> None:
    frame = GOOD.with_columns(values.alias(column))
    try:
        checked = check_table(frame.lazy(), "impressions", Impressions)
    except DataError:
        return
    rows = [*checked.used["row"], *checked.quarantine["row"]]
    assert sorted(rows) == list(range(8))
    assert checked.quarantine["reason"].str.len_chars().min() != 0
    assert checked.used["price"].is_finite().all()
    assert checked.used["discount_rate"].is_between(0, 1).all()


@fuzzed
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255), keep=st.floats(0, 1))
def test_a_damaged_parquet_file_is_read_or_refused(
    place: float, value: int, keep: float, tmp_path: Path
) -> None:
    file = io.BytesIO()
    GOOD.write_parquet(file)
    content = bytearray(file.getvalue())
    content[int(place * len(content))] ^= value
    whole = len(content) if keep > 0.5 else int(2 * keep * len(content))
    (tmp_path / "impressions.parquet").write_bytes(content[:whole])
    try:
        raw = read_folder(tmp_path)
        checked = check_table(
            raw.impressions, "impressions", Impressions, files=raw.files["impressions"]
        )
    except DataError:
        return
    assert checked.rows.read == checked.rows.used + checked.rows.set_aside


@fuzzed
@given(name=st.integers(0, 10**6), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_bit_of_a_model_folder_changes_unseen(
    name: int, place: float, bit: int, small_model_folder: Path
) -> None:
    manifest = read_model_folder(small_model_folder).manifest
    names = sorted(n for n, facts in manifest["files"].items() if facts["size"])
    file = small_model_folder / names[name % len(names)]
    before = file.read_bytes()
    changed = bytearray(before)
    changed[int(place * len(changed))] ^= 1 << bit
    try:
        file.write_bytes(changed)
        with pytest.raises(ModelFolderError, match="is not the file that was saved"):
            read_model_folder(small_model_folder)
    finally:
        file.write_bytes(before)


@fuzzed
@given(
    content=st.binary(max_size=200), place=st.floats(0, 1), kind=st.sampled_from(["PNG", "JPEG"])
)
def test_any_bytes_are_a_picture_or_are_refused(content: bytes, place: float, kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(file, kind)
    good = file.getvalue()
    cut = int(place * len(good))
    reader = PictureReader(size=8, max_bytes=10**6, max_pixels=10**6)
    for candidate in (content, good[:cut] + content + good[cut + len(content) :]):
        try:
            pixels = reader.pixels(candidate)
        except DataError:
            continue
        assert pixels.shape == (8, 8, 3)


def test_a_picture_bomb_is_refused_before_it_is_unpacked() -> None:
    reader = PictureReader(size=8, max_bytes=10**7, max_pixels=10**6)
    with pytest.raises(DataError, match="has 4,000,000 pixels, more than 1,000,000"):
        reader.pixels(bomb(2000))


CASES = {
    ("products: lists", "image"): REFUSED,
    ("products: no such column", "category"): SCORED,
    ("impressions: the largest float", "price"): SCORED,
    ("impressions (CSV): NaN", "discount_rate"): SET_ASIDE,
    ("truncated Parquet", "events at 70%"): REFUSED,
    ("picture paths", "'../outside.png'"): SCORED,
    ("model folder: manifest", "path escape"): REFUSED,
    ("model folder: manifest", "files are a list"): REFUSED,
}


@pytest.mark.parametrize(("group", "name"), CASES)
def test_bad_inputs_end_as_they_should(
    group: str, name: str, tiny_folder: Path, small_model_folder: Path, tmp_path: Path
) -> None:
    good = small(tiny_folder, tmp_path, 40)
    cases = every_case(good, small_model_folder)
    case = next(case for case in cases if (case.group, case.name) == (group, name))
    place = tmp_path / "case"

    outcome = tried(case, good, small_model_folder, place, "lightgbm")

    assert (outcome.kind, outcome.told if outcome.kind == FAULT else "") == (
        CASES[group, name], "",
    )  # fmt: skip
    shutil.rmtree(place)
