"""Words of the sections on single impressions and on tests, in English and Korean."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ContributionWords:
    """Headings, notes and patterns; braces are filled in by `str.format`."""

    shares: str
    shares_note: str
    fusion: str
    lightgbm: str
    share: str
    saved: str
    saved_note: str
    too_few: str
    words: str
    words_note: str
    word: str
    mean: str
    n: str
    impressions: str
    impressions_note: str
    first_markets: str
    probability: str
    converted: str
    not_converted: str
    path: str
    no_path: str
    earlier: str
    others: str
    no_title: str
    no_picture: str
    modalities: Mapping[str, str]
    tokens: Mapping[str, str]
    held_out: str
    not_held_out: str


ENGLISH = ContributionWords(
    shares="What decides, by modality",
    shares_note=(
        "Share of all contributions in size, over {n} impressions: exact Shapley values of the "
        "fusion, TreeSHAP of LightGBM beside them. {held}"
    ),
    fusion="fusion",
    lightgbm="LightGBM",
    share="Share",
    saved="Log-loss saved by each modality",
    saved_note=(
        "Shapley values of the log-loss, calibrated, in thousandths ({level} intervals, clustered "
        "by user). Above zero a modality makes the predictions of the market better."
    ),
    too_few=(
        "Not enough conversions or users in the sample (fewer than {n} conversions or ten users), "
        "so not told: {markets}."
    ),
    words="Words that move single predictions",
    words_note=(
        "Mean contribution to the log-odds, before calibration, where the title has the word or "
        "phrase, by integrated gradients: what it adds to single predictions, where effects, "
        "above, are what buyers make of it. Intervals tell how it differs between users and "
        "listings, not how sure the model is; effects, above, tell that. The words shown are the "
        "largest of {n} words and phrases whose interval is off zero; intervals are not "
        "corrected for that choice."
    ),
    word="Word",
    mean="Contribution",
    n="Impressions",
    impressions="Single impressions",
    impressions_note=(
        "Blue adds to the log-odds, orange takes away, against an offer in the same market of "
        "which nothing is known; the strongest word of each title has the fullest colour. "
        "Contributions add up before calibration, which then stretches log-odds and shifts them "
        "by market; the probability is calibrated."
    ),
    first_markets="Of {total} markets these are the first {n} by name.",
    probability="Probability",
    converted="bought",
    not_converted="did not buy",
    path="Click path, oldest first",
    no_path="No events before it.",
    earlier="… {n} earlier events",
    others="What else counts most",
    no_title="no title",
    no_picture="no picture",
    modalities={
        "text": "text", "image": "picture", "clickstream": "clickstream", "terms": "terms",
        "culture": "market", "identity-and-context": "identity and context",
    },
    tokens={
        "(title)": "the title as a whole", "(picture)": "the picture",
        "(path so far)": "the path as a whole",
    },
    held_out="They are of the test period, which the model did not learn from.",
    not_held_out="Whether the model learned from some of them is not known.",
)  # fmt: skip

KOREAN = ContributionWords(
    shares="무엇이 결정하는가: 양식별",
    shares_note=(
        "노출 {n}개에 대해 기여 크기 전체에서 차지하는 몫. 융합 모델의 정확한 섀플리 값과 그 옆에 "
        "LightGBM의 TreeSHAP. {held}"
    ),
    fusion="융합",
    lightgbm="LightGBM",
    share="몫",
    saved="양식마다 줄인 로그 손실",
    saved_note=(
        "보정한 로그 손실의 섀플리 값, 1000분의 1 단위({level} 구간, 사용자별 군집). 0보다 크면 "
        "그 양식이 시장의 예측을 더 좋게 합니다."
    ),
    too_few=(
        "표본에 구매나 사용자가 모자라(구매 {n}건 미만 또는 사용자 10명 미만) 말하지 않는 시장: "
        "{markets}."
    ),
    words="개별 예측을 움직이는 단어",
    words_note=(
        "제목에 그 단어나 문구가 있을 때 보정 전 로그 오즈에 대한 평균 기여(적분 기울기)로, 개별 "
        "예측에 더해지는 값입니다. 구매자의 반응은 위의 효과가 말합니다. 구간은 사용자"
        "와 상품마다 얼마나 다른지를 말할 뿐 모델이 얼마나 확신하는지는 위의 효과가 말합니다. "
        "단어와 문구 {n}개 가운데 구간이 0을 벗어난 가장 큰 것들을 골라 보이며, 구간은 그 선택에 "
        "대해 보정하지 않았습니다."
    ),
    word="단어",
    mean="기여",
    n="노출",
    impressions="개별 노출",
    impressions_note=(
        "같은 시장에서 아무것도 알려지지 않은 제안과 견주어 파란색은 로그 오즈를 더하고 주황색은 "
        "뺍니다. 제목마다 가장 강한 단어의 색이 가장 진합니다. 기여의 합은 보정 전 값이며, "
        "보정은 로그 오즈를 같은 비율로 늘리거나 줄이고 시장별로 옮깁니다. 확률은 보정된 값입니다."
    ),
    first_markets="시장 {total}개 가운데 이름순으로 앞의 {n}개입니다.",
    probability="확률",
    converted="구매함",
    not_converted="구매하지 않음",
    path="클릭 경로, 오래된 것부터",
    no_path="그전의 이벤트가 없습니다.",
    earlier="… 이전 이벤트 {n}개",
    others="그 밖에 크게 작용한 것",
    no_title="제목 없음",
    no_picture="사진 없음",
    modalities={
        "text": "글", "image": "사진", "clickstream": "클릭 기록", "terms": "조건",
        "culture": "시장", "identity-and-context": "상품과 상황",
    },
    tokens={
        "(title)": "제목 전체", "(picture)": "사진", "(path so far)": "경로 전체",
    },
    held_out="모델이 배우지 않은 시험 기간의 노출입니다.",
    not_held_out="모델이 그중 일부를 배웠는지는 알 수 없습니다.",
)  # fmt: skip

CONTRIBUTION_WORDS = {"en": ENGLISH, "ko": KOREAN}
