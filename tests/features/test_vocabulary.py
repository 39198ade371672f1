import json

import polars as pl

from features.arrays import MISSING, N_RESERVED, UNSEEN
from features.vocabulary import Vocabulary


def test_values_are_sorted_by_frequency_then_name() -> None:
    words = Vocabulary.fit(pl.Series(["b", "c", None, "c", "a", ""]))
    assert words.values == ("c", "", "a", "b")
    assert len(words) == 4 + N_RESERVED
    assert words.names[N_RESERVED] == "c"


def test_missing_and_unseen_values_have_codes_of_their_own() -> None:
    words = Vocabulary.fit(pl.Series(["b", "b", "a"]))
    codes = words.encode(pl.Series(["a", None, "z", "b", "(missing)"]))
    assert codes.tolist() == [4, MISSING, UNSEEN, 3, UNSEEN]


def test_rare_values_are_unseen() -> None:
    words = Vocabulary.fit(pl.Series(["b", "b", "a"]), min_count=2)
    assert words.encode(pl.Series(["a", "b"])).tolist() == [UNSEEN, 3]


def test_a_vocabulary_without_values_knows_only_reserved_codes() -> None:
    words = Vocabulary.fit(pl.Series([None, None], dtype=pl.String))
    assert len(words) == N_RESERVED
    assert words.encode(pl.Series(["a", None])).tolist() == [UNSEEN, MISSING]


def test_a_vocabulary_survives_json() -> None:
    words = Vocabulary.fit(pl.Series(["세일", "x", "x"]))
    assert Vocabulary.from_dict(json.loads(json.dumps(words.to_dict()))) == words
