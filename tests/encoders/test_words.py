import hashlib
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from features.arrays import MISSING, N_RESERVED, PAD, UNSEEN
from purchase_predictor.encoders.words import RESERVED, WordPieces

TITLES = pl.Series(
    [
        *["한정수량 파란 러닝화 무료배송", "限定 赤い靴 送料無料", "blue shoes free shipping"] * 4,
        *["รองเท้าวิ่ง ส่งฟรี", "蓝色 跑鞋 包邮", "giày chạy miễn phí vận chuyển"] * 4,
        "one ☃ only",
        None,
    ]
)


@pytest.fixture(scope="module")
def words() -> WordPieces:
    return WordPieces.fit(TITLES, 512)


def pieces(words: WordPieces, title: str) -> list[str]:
    codes = words.encode(pl.Series([title]), 32)[0]
    return [words.names[code] for code in codes if code != PAD]


def test_codes_of_a_missing_and_of_an_empty_title(words: WordPieces) -> None:
    codes = words.encode(pl.Series([None, "", "blue shoes"]), 4)

    assert codes.dtype == np.int32
    assert codes[0].tolist() == [MISSING, PAD, PAD, PAD]
    assert codes[1].tolist() == [PAD] * 4
    assert (codes[2, :2] >= N_RESERVED).all()
    assert codes[2, 2:].tolist() == [PAD, PAD]


def test_reserved_codes_come_first_and_the_vocabulary_keeps_its_size(words: WordPieces) -> None:
    assert words.names[:N_RESERVED] == RESERVED
    assert RESERVED.index("[UNSEEN]") == UNSEEN
    assert len(words) <= 512


@pytest.mark.parametrize("phrase", ["무료배송", "送料無料", "包邮", "ส่งฟรี", "shipping"])
def test_a_frequent_phrase_is_one_piece_in_every_script(words: WordPieces, phrase: str) -> None:
    assert pieces(words, phrase) == [f"▁{phrase}"]


def test_a_character_of_one_training_title_is_unseen_there_already(words: WordPieces) -> None:
    assert UNSEEN in words.encode(TITLES, 16)[-2]
    assert UNSEEN in words.encode(pl.Series(["Ω shoes"]), 16)[0]


def test_width_case_and_control_characters_do_not_matter(words: WordPieces) -> None:
    odd = pl.Series(["ＢＬＵＥ\x00\tShoes"])

    assert (words.encode(odd, 8) == words.encode(pl.Series(["blue shoes"]), 8)).all()


def test_a_long_title_is_cut(words: WordPieces) -> None:
    long = words.encode(pl.Series(["blue shoes " * 20_000]), 6)

    assert long.shape == (1, 6)
    assert (long >= N_RESERVED).all()


def test_a_vocabulary_survives_being_kept_as_text(words: WordPieces) -> None:
    again = WordPieces(words.json)

    assert again.names == words.names
    assert (again.encode(TITLES, 12) == words.encode(TITLES, 12)).all()


def test_titles_without_a_character_give_the_reserved_codes_alone() -> None:
    words = WordPieces.fit(pl.Series(["", " "]), 300)

    assert set(words.encode(pl.Series(["any title"]), 4)[0].tolist()) <= {PAD, UNSEEN, N_RESERVED}


def test_another_process_learns_the_same_pieces() -> None:
    code = (
        "import hashlib, polars as pl\n"
        "from purchase_predictor.encoders.words import WordPieces\n"
        "titles = pl.Series([f'제품 {i % 17} 무료 배송 item {i % 7} 送料{i % 5}' "
        "for i in range(400)])\n"
        "print(hashlib.sha256(WordPieces.fit(titles, 300).json.encode()).hexdigest())"
    )
    titles = pl.Series([f"제품 {i % 17} 무료 배송 item {i % 7} 送料{i % 5}" for i in range(400)])

    here = hashlib.sha256(WordPieces.fit(titles, 300).json.encode()).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert there.strip() == here
