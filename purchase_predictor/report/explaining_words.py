"""Words of the report of an explanation, in English and Korean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Words:
    """Headings, notes and patterns of the page; braces are filled in by `str.format`."""

    title: str
    bottom_line: str
    nothing: str
    strongest: str
    grid: str
    grid_note: str
    forest: str
    forest_note: str
    contrasts: str
    contrasts_note: str
    market: str
    lever: str
    against: str
    effect: str
    points: str
    difference: str
    p_holm: str
    sure: str
    yes: str
    no: str
    not_tested: str
    table: str
    discount_rate: str
    free_shipping: str
    phrase: str
    caveats: str
    association: str
    randomised: str
    readout: str
    two_levers: str
    small: str
    own_phrases: str
    nowhere: str
    image: str
    image_swap: str
    number_one_brand: str
    found_phrase: str
    asked: str
    found: str


ENGLISH = Words(
    title="What moves buyers, market by market",
    bottom_line="{n} of {total} effects are clear of zero (95 % intervals, not corrected). ",
    nothing="No effect is clear of zero. ",
    strongest="The strongest: {lever} in {market}, {logit} in log-odds ({low} to {high}).",
    grid="Effect of each lever in each market",
    grid_note=(
        "Log-odds of buying with the lever less without it, averaged over the market's "
        "impressions. Blue attracts, orange deters; pale figures could be zero or were not tested."
    ),
    forest="The same with {level} intervals",
    forest_note=(
        "Errors hold what the rows leave open, what was drawn to the other markets, and what "
        "rows of one user or one listing share. Where an effect was not tested, the interval "
        "leaves out how sure the model is of its weights."
    ),
    contrasts="Differences between markets",
    contrasts_note=(
        "Market less against; p after Holm over all levers and pairs; smallest p first."
    ),
    market="Market",
    lever="Lever",
    against="Against",
    effect="Log-odds",
    points="Percentage points",
    difference="Difference",
    p_holm="p (Holm)",
    sure="Clear of zero",
    yes="yes",
    no="no",
    not_tested="not tested",
    table="Table",
    discount_rate="discount, ten points more",
    free_shipping="free shipping (the term)",
    phrase="“{phrase}” in the title",
    caveats="What this does not say",
    association=(
        "Effects explain the model. Sellers choose phrases and discounts, so without offers "
        "assigned at random an effect is an association, not what a change would bring."
    ),
    randomised=(
        "Every offer of this data was assigned at random: effects are what a change brings."
    ),
    readout=(
        "They are those of the solved part of the model, where every phrase and term has a "
        "weight of its own in each market; the network beside it has no part in them."
    ),
    two_levers="“Free shipping” the phrase and free shipping the term are two levers.",
    small=(
        "A market with few conversions is drawn towards the others: its effects are theirs "
        "unless its own rows say otherwise."
    ),
    own_phrases=(
        "Phrases that the model has no weights of ({names}) were written in front of titles "
        "and the whole model was asked: their intervals tell how that differs between users and "
        "listings, not how sure the model is; of fewer than ten users or listings there is none."
    ),
    nowhere="No title has these phrases, so nothing is told of them: {names}.",
    image="the picture (the difference that it makes)",
    image_swap="the picture of another listing instead",
    number_one_brand="of the market's best-selling brand",
    found_phrase="found: “{phrase}” in the title",
    asked=(
        "Effects of pictures and of the brand were asked of the whole model; their intervals, "
        "too, tell how they differ between users and listings, not how sure the model is."
    ),
    found=(
        "Phrases found are words in a row whose contributions to single predictions are largest; "
        "their effects were measured on other shoppers, by writing them in front of titles. Of "
        "many words some are large by chance."
    ),
)

KOREAN = Words(
    title="시장마다 무엇이 구매자를 움직이는가",
    bottom_line="{total}개 효과 가운데 {n}개는 분명히 0이 아닙니다(95 % 구간, 보정하지 않음). ",
    nothing="분명히 0이 아닌 효과는 없습니다. ",
    strongest="가장 강한 것: {market}의 {lever}, 로그 오즈 {logit} ({low} ~ {high}).",
    grid="시장별 각 요소의 효과",
    grid_note=(
        "요소가 있을 때의 구매 로그 오즈에서 없을 때를 뺀 값을 시장의 노출에 대해 평균한 "
        "것입니다. "
        "파란색은 끌어당기고 주황색은 밀어냅니다. 옅은 숫자는 0일 수 있거나 "
        "검정하지 않은 것입니다."
    ),
    forest="같은 효과와 {level} 구간",
    forest_note=(
        "오차에는 데이터가 정하지 못한 것, 다른 시장 쪽으로 당겨진 것, 한 사용자나 한 상품의 "
        "행들이 "
        "공유하는 것이 모두 들어 있습니다. "
        "검정하지 않은 효과의 구간에는 모델이 가중치를 얼마나 확신하는지가 들어 있지 않습니다."
    ),
    contrasts="시장 사이의 차이",
    contrasts_note="시장에서 기준을 뺀 값. p는 모든 요소와 쌍에 대한 Holm 보정, 작은 것부터.",
    market="시장",
    lever="요소",
    against="기준",
    effect="로그 오즈",
    points="퍼센트포인트",
    difference="차이",
    p_holm="p (Holm)",
    sure="0이 아님이 확실",
    yes="예",
    no="아니요",
    not_tested="검정하지 않음",
    table="표",
    discount_rate="할인 10포인트 추가",
    free_shipping="무료 배송 (조건)",
    phrase="제목의 “{phrase}”",
    caveats="말하지 않는 것",
    association=(
        "효과는 모델을 설명합니다. 문구와 할인은 판매자가 고르므로, 무작위로 배정된 제안이 없으면 "
        "효과는 연관일 뿐이며 바꾸었을 때의 결과가 아닙니다."
    ),
    randomised="이 데이터의 모든 제안은 무작위로 배정되었습니다. 효과는 바꾸었을 때의 결과입니다.",
    readout=(
        "효과는 모델에서 직접 푼 부분의 것입니다. 거기서는 모든 문구와 조건이 시장마다 자기 "
        "가중치를 가지며, 옆의 신경망은 포함되지 않습니다."
    ),
    two_levers="문구 “무료 배송”과 조건 무료 배송은 서로 다른 요소입니다.",
    small=(
        "구매가 적은 시장은 다른 시장 쪽으로 당겨집니다. 자기 데이터가 달리 말하지 않으면 다른 "
        "시장의 효과와 같습니다."
    ),
    own_phrases=(
        "모델에 가중치가 없는 문구({names})는 제목 앞에 써넣고 모델 전체에 물었습니다. 그 구간은 "
        "사용자와 상품마다 얼마나 다른지를 말할 뿐 모델이 얼마나 확신하는지는 말하지 않으며, "
        "사용자나 상품이 열보다 적으면 구간이 없습니다."
    ),
    nowhere="어느 제목에도 다음 문구가 없어 아무것도 말할 수 없습니다: {names}.",
    image="사진, 있을 때와 없을 때의 차이",
    image_swap="다른 상품의 사진으로 바꿈",
    number_one_brand="시장에서 가장 많이 팔린 브랜드",
    found_phrase="찾아낸 것: 제목의 “{phrase}”",
    asked=(
        "사진과 브랜드의 효과는 모델 전체에 물었습니다. 그 구간도 사용자와 상품마다 얼마나 다른지"
        "를 말할 뿐 모델이 얼마나 확신하는지는 말하지 않습니다."
    ),
    found=(
        "찾아낸 문구는 개별 예측에 대한 기여가 가장 큰 연속된 단어입니다. 효과는 다른 "
        "구매자에게서 제목 앞에 써넣어 쟀습니다. 단어가 많으면 몇몇은 우연히 크게 나옵니다."
    ),
)

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}


def lever_name(row: Mapping[str, Any], words: Words) -> str:
    """A lever as people call it."""
    if row["lever"] == "phrase":
        return words.phrase.format(phrase=str(row["phrase"]).replace("_", " "))
    if row["lever"] == "found_phrase":
        return words.found_phrase.format(phrase=row["phrase"])
    named = {
        "discount_rate": words.discount_rate, "free_shipping": words.free_shipping,
        "image": words.image, "image_swap": words.image_swap,
        "number_one_brand": words.number_one_brand,
    }  # fmt: skip
    return named.get(row["lever"], str(row["lever"]))
