import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import crediting

EFFECT = {"limited_quantity": 0.6, "free_shipping": 0.1, "number_one": 0.1}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """40 listings of each of title only, picture only, both and neither, in one market."""
    shown = [(title, picture) for title in (True, False) for picture in (True, False)] * 40
    columns = {
        f"{kind}_{phrase}": [pair[place] for pair in shown]
        for phrase in crediting.PHRASES
        for place, kind in enumerate(("phrase", "badge"))
    }
    names = [str(number) for number in range(len(shown))]
    pl.DataFrame({"product_id": names, **columns}).write_parquet(tmp_path / "products.parquet")
    image = {phrase: value / 2 for phrase, value in EFFECT.items()}
    effects = {"KR": {"phrase": EFFECT, "image": image}}
    (tmp_path / "effects.json").write_text(json.dumps(effects))
    return tmp_path


def listings(truth: Path, of_title: str, of_picture: str) -> pl.DataFrame:
    """A model that credits 0.5 where a title has the phrase and 0.2 where a picture has it."""
    made = pl.read_parquet(truth / "products.parquet")
    noise = pl.Series(np.random.default_rng(0).normal(0, 0.05, len(made)))
    return made.select(
        "product_id",
        pl.lit("KR").alias("market"),
        (0.5 * pl.col(of_title) + noise).alias("title"),
        (0.2 * pl.col(of_picture) - noise).alias("picture"),
    )


def test_each_place_is_credited_with_its_own(truth: Path) -> None:
    found = crediting.credit_of(
        listings(truth, "phrase_limited_quantity", "badge_limited_quantity"), truth
    )
    picture, title = found[:2]
    assert (picture["shown_in"], title["shown_in"]) == ("picture", "title")
    assert (picture["planted"], title["planted"]) == (0.3, 0.6)
    assert picture["markets"] == ["KR"]
    assert picture["listings"] == title["listings"] == 40
    assert picture["picture"][0] == pytest.approx(0.2, abs=0.05)
    assert picture["title"][1] < 0 < picture["title"][2]
    assert title["title"][1] > 0.4
    assert title["picture"][1] < 0 < title["picture"][2]


def test_credit_in_the_wrong_place_is_seen(truth: Path) -> None:
    found = crediting.credit_of(
        listings(truth, "badge_limited_quantity", "phrase_limited_quantity"), truth
    )
    assert found[0]["title"][1] > 0.4
    assert found[0]["picture"][1] < 0 < found[0]["picture"][2]


def test_phrases_without_an_effect_are_not_judged(truth: Path) -> None:
    rows = crediting.credit_of(listings(truth, "phrase_number_one", "badge_number_one"), truth)
    assert {row["phrase"] for row in rows} == {"limited_quantity"}
