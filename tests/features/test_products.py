from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import MISSING, UNSEEN
from features.errors import DataError
from features.products import load_phrases, phrase_flags, product_arrays
from features.vocabulary import Vocabulary


def found(title: str | None) -> set[str]:
    phrases = load_phrases()
    flags = phrase_flags(pl.Series([title], dtype=pl.String), phrases)
    return {group for group, flag in zip(phrases, flags[0], strict=True) if flag}


@pytest.mark.parametrize(
    ("title", "groups"),
    [
        ("파란 러닝화 무료배송", {"free_shipping"}),
        ("파란 러닝화 무료 배송", {"free_shipping"}),
        ("[한정수량]초특가 러닝화", {"limited_quantity", "sale"}),
        ("Shoes - FREE  SHIPPING!", {"free_shipping"}),
        ("SALE무료배송", {"sale", "free_shipping"}),
        ("ｓａｌｅ", {"sale"}),
        ("판매 1위 러닝화", {"number_one"}),
        ("11위", set()),
        ("wholesale resale saleroom", set()),
        ("No.1 おすすめ", {"number_one"}),
        ("No.10 おすすめ", set()),
        ("#1 best-seller, while stocks last", {"number_one", "limited_quantity"}),
        ("Große Auswahl, solange Vorrat reicht", {"limited_quantity"}),
        ("GIA\u0309M GIA\u0301", {"sale"}),
        ("送料無料 数量限定", {"free_shipping", "limited_quantity"}),
        ("", set()),
        (None, set()),
    ],
)
def test_phrases_are_found_in_any_case_width_and_market(
    title: str | None, groups: set[str]
) -> None:
    assert found(title) == groups


def test_phrases_of_ones_own_are_no_patterns(tmp_path: Path) -> None:
    file = tmp_path / "phrases.yaml"
    file.write_text("plus: {KR: ['1+1', 'a.c']}\n")
    titles = pl.Series(["1+1 행사", "111", "abc", "A.C"])
    assert phrase_flags(titles, load_phrases(file))[:, 0].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold groups"),
        ("- sale", "must hold groups"),
        ("sale: [sale]", "the group 'sale'"),
        ("1: {KR: [x]}", "the group 1"),
        ("sale: {KR: []}", "sale, market 'KR': it must hold a list"),
        ("sale: {KR: 세일}", "sale, market 'KR': it must hold a list"),
        ("sale: {KR: [1]}", "1 is not a phrase"),
        ("sale: {KR: ['  ']}", "is not a phrase"),
        ("sale: {NO: [salg]}", "put it in quotes"),
        ("sale: {KR: [", "not a YAML file"),
    ],
)
def test_a_bad_file_of_phrases_is_refused_with_a_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "phrases.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        load_phrases(file)


def test_the_catalogue_starts_with_the_missing_product() -> None:
    products = pl.DataFrame(
        {
            "product_id": ["a", "b"],
            "title": ["on sale", None],
            "image": [None, "b.png"],
            "category": ["x", None],
            "brand": ["new", "old"],
        }
    )
    vocabularies = {"identity": Vocabulary(("a",)), "category": Vocabulary(("x",))}
    arrays = product_arrays(
        products,
        {**vocabularies, "brand": Vocabulary(("old",))},
        {"sale": {"US": ["sale"]}, "none": {"US": ["none"]}},
    )
    assert arrays.product_id.tolist() == [None, "a", "b"]
    assert arrays.identity.tolist() == [MISSING, 3, UNSEEN]
    assert arrays.category.tolist() == [MISSING, 3, MISSING]
    assert arrays.brand.tolist() == [MISSING, UNSEEN, 3]
    np.testing.assert_array_equal(arrays.phrases, [[0, 0], [1, 0], [0, 0]])
    assert arrays.has_text.tolist() == [False, True, False]
    assert arrays.has_image.tolist() == [False, False, True]
    assert arrays.words.shape == arrays.text.shape == arrays.image.shape == (3, 0)
