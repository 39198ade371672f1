"""What the report of what happened after scoring says, in each of its languages."""

from dataclasses import dataclass

from purchase_predictor.evaluation.gap import SAME
from purchase_predictor.report.following_heads import ENGLISH_HEADS, KOREAN_HEADS, Heads
from purchase_predictor.report.language import in_language


@dataclass(frozen=True)
class Words:
    """Headings, notes and patterns of the page; braces are filled in by `str.format`."""

    title: str
    what: str
    heads: Heads
    scope_names: dict[str, str]
    bottom: str
    bottom_right: str
    bottom_high: str
    bottom_low: str
    bottom_unknown: str
    bottom_gap: str
    bottom_policy: str
    verdicts: dict[str, str]
    table: str
    in_the_large: str
    in_the_large_note: str
    reliability: str
    reliability_note: str
    discrimination: str
    discrimination_note: str
    drift: str
    drift_note: str
    periods: dict[str, str]
    psi: str
    psi_axis: str
    psi_note: str
    gaps: str
    gaps_note: str
    gaps_axis: str
    apart: str
    apart_note: str
    apart_axis: str
    no_common_period: str
    policy: str
    policy_note: str
    policy_axis: str
    policy_logging: dict[str, str]
    policy_sums_to_one: str
    estimators: dict[str, str]
    refusals: dict[str, str]
    flags: str
    flags_note: str
    facts: dict[str, str]
    caveats: str
    caveat_list: tuple[str, ...]


ENGLISH = Words(
    title="What happened after scoring",
    what=(
        "Scores joined with what happened, impression by impression. Were the probabilities "
        "right, do they rank, do they drift, and is one model better than another?"
    ),
    heads=ENGLISH_HEADS,
    scope_names={"macro": "mean of markets", "pooled": "all markets"},
    bottom=(
        "{model}, over all rows: predicted {predicted}, {rate} converted; {verdict}; "
        "ratio {ratio}."
    ),
    bottom_right="right on average as far as can be told",
    bottom_high="it promises too much",
    bottom_low="it promises too little",
    bottom_unknown="too few conversions to tell",
    bottom_gap=(
        "On the {n} impressions that both scored, {arm} against {against}: AUC {value}, {verdict}."
    ),
    bottom_policy=(
        "Showing what {arm} ranks first instead of what {against} does: {value} conversions a "
        "hundred lists, {verdict}."
    ),
    verdicts={
        "arm better": "the first is better",
        "against better": "the second is better",
        "undecided": "no difference seen",
        SAME: "the same to 4 digits",
        "not enough data": "not enough data",
    },
    table="Table",
    in_the_large="Were the probabilities right?",
    in_the_large_note=(
        "Mean prediction over the realised rate: 1 is right, above it the model promised too "
        "much. A slope below 1: predictions are too extreme. Bars: {level} intervals, users "
        "resampled."
    ),
    reliability="Realised rate by prediction",
    reliability_note=(
        "Equal numbers of impressions a point; bars are Wilson's {level} intervals, rows taken as "
        "independent; square-root axes."
    ),
    discrimination="Do the probabilities rank?",
    discrimination_note=(
        "AUC: how often a conversion was ranked above a non-conversion. Bars: {level} intervals, "
        "users resampled."
    ),
    drift="Does it drift?",
    drift_note=(
        "Mean prediction over the realised rate by {period}, all markets; bars: {level} "
        "intervals, users resampled. In {n_out} of {n} points the interval leaves 1 out; chance "
        "alone would do so in about {expected}. drift.parquet has every market."
    ),
    periods={"week": "week", "day": "day"},
    psi="Did the scores move?",
    psi_axis="Population stability index",
    psi_note=(
        "Scores of each {period} against the first, in ten bins of equal numbers. Dashed: what "
        "chance exceeds once in {once} were rows independent. By custom above 0.1 deserves a "
        "look, above 0.25 means another population; the first {period} may be short."
    ),
    gaps="Same impressions: which model ranks better?",
    gaps_note=(
        "AUC of the later model minus that of the earlier on the impressions that both scored; "
        "right of zero the later one is better. Paired {level} intervals; p after Holm over "
        "markets."
    ),
    gaps_axis="AUC, difference",
    apart="Different impressions: which model's shoppers converted more?",
    apart_note=(
        "The models served different impressions of the same market and period. Difference of "
        "conversion rates with {level} intervals, users resampled. It is caused by the models "
        "only if chance decided which of them served whom; else it may be the shoppers."
    ),
    apart_axis="Conversion rate, difference",
    no_common_period="not in the same period",
    policy="What is it worth to rank by one instead of the other?",
    policy_note=(
        "Of every list the offer ranked first is shown; value: the conversion rate of what is "
        "shown. Difference of values with {level} intervals, users resampled. {logging}"
    ),
    policy_axis="Value, difference",
    policy_logging={
        "drawn": (
            "Chance drew the offers that compete (rows with a propensity), and every one of them "
            "was shown: what a choice did is known for certain, nothing needs weighing and the "
            "three estimates agree."
        ),
        "chosen": (
            "Chance showed one offer of each list; what it showed is weighed by one over its "
            "propensity. The doubly robust estimate predicts the rest with the other model's "
            "probability."
        ),
    },
    policy_sums_to_one=(
        "The propensities of every list sum to 1, as if one of its offers were shown, yet all "
        "have an outcome. If only one was shown, leave 'converted' empty for the others: these "
        "values are wrong otherwise."
    ),
    estimators={
        "ips": "inverse propensity (IPS)",
        "snips": "self-normalised IPS",
        "dr": "doubly robust",
    },
    refusals={
        "missing": (
            "No value of ranking by one model instead of another: no impression scored has a "
            "propensity, the probability with which chance showed it."
        ),
        "zero": (
            "No value of ranking by one model instead of another: {n} impressions have a "
            "propensity that is no number above 0 and up to 1; an offer that chance never shows "
            "tells nothing."
        ),
        "no_lists": (
            "No value of ranking by one model instead of another: {n} impressions have a "
            "propensity, but no list has two of them that both models scored and an outcome."
        ),
        "mixed": (
            "No value of ranking by one model instead of another: {n} of {lists} lists neither "
            "have an outcome for every offer with a propensity, nor for exactly one while "
            "propensities sum to 1, as most others do."
        ),
        "effective": (
            "No value of ranking by one model instead of another: {lists} lists are worth "
            "{n:.0f} when weighed, fewer than {least:.0f}."
        ),
    },
    flags="Rows with a flag",
    flags_note=(
        "What scoring flagged (a market or product it did not know, …): do its fallbacks hold?"
    ),
    facts={
        "data": "Outcomes",
        "scores": "Scores",
        "time": "Impressions shown",
        "joined": "Joined",
        "not_in_outcomes": "Scored, not in the outcomes",
        "not_known": "Scored, outcome not known",
        "without_score": "With an outcome, not scored",
        "another_market": "Scored for another market",
        "set_aside": "Rows set aside",
    },
    caveats="What this does not say",
    caveat_list=(
        "A ratio away from 1 may be the model's fault or the world's: a campaign, a season, a "
        "change of who comes. The score index tells whether the shoppers changed.",
        "Impressions that were not scored, or have no outcome yet, are in none of these figures. "
        "Conversions that come late make the last {period} look worse than it is.",
        "Where scores decided what was shown, outcomes show the model on its own choices. Only "
        "offers left to chance tell what another choice would have done.",
        "“No difference seen” is not “equal”: compare the smallest detectable difference.",
    ),
)

KOREAN = Words(
    title="점수를 매긴 뒤 실제로 일어난 일",
    what=(
        "점수와 실제 결과를 노출 단위로 결합했습니다. 확률이 맞았는지, 순위를 잘 매기는지, "
        "시간에 따라 변하는지, 어느 모델이 더 나은지 보여 줍니다."
    ),
    heads=KOREAN_HEADS,
    scope_names={"macro": "시장 평균", "pooled": "전체 시장"},
    bottom="{model}: 전체 행에서 예측 {predicted}, 실제 전환 {rate}. {verdict}. 비율 {ratio}.",
    bottom_right="평균적으로 맞은 것으로 보입니다",
    bottom_high="실제보다 높게 예측합니다",
    bottom_low="실제보다 낮게 예측합니다",
    bottom_unknown="전환이 적어 판단할 수 없습니다",
    bottom_gap=(
        "두 모델이 모두 점수를 매긴 노출 {n}건에서 {arm} 대 {against}: AUC {value}, {verdict}."
    ),
    bottom_policy=(
        "{against} 대신 {arm}의 1순위를 보여 주면 목록 100개당 전환 {value}건, {verdict}."
    ),
    verdicts={
        "arm better": "앞의 모델이 낫습니다",
        "against better": "뒤의 모델이 낫습니다",
        "undecided": "차이가 보이지 않습니다",
        SAME: "소수 넷째 자리까지 같습니다",
        "not enough data": "데이터가 부족합니다",
    },
    table="표",
    in_the_large="확률은 맞았는가?",
    in_the_large_note=(
        "평균 예측을 실제 전환율로 나눈 값: 1이면 맞고, 1보다 크면 높게 예측한 것입니다. 기울기가 "
        "1보다 작으면 예측이 지나치게 극단적입니다. 막대: 사용자를 재표집한 {level} 구간."
    ),
    reliability="예측별 실제 전환율",
    reliability_note=(
        "점마다 노출 수가 같습니다. 막대는 행을 독립으로 본 Wilson {level} 구간이며, 축은 "
        "제곱근입니다."
    ),
    discrimination="확률은 순위를 잘 매기는가?",
    discrimination_note=(
        "AUC: 전환을 비전환보다 높게 매긴 빈도. 막대: 사용자를 재표집한 {level} 구간."
    ),
    drift="시간에 따라 변하는가?",
    drift_note=(
        "{period}마다의 평균 예측 / 실제 전환율, 전체 시장. 막대: 사용자를 재표집한 {level} 구간. "
        "{n}개 점 가운데 {n_out}개의 구간이 1을 벗어나며, 우연만으로도 약 {expected}개가 "
        "벗어납니다. 시장별 값은 drift.parquet에 있습니다."
    ),
    periods={"week": "주", "day": "날"},
    psi="점수의 분포가 달라졌는가?",
    psi_axis="모집단 안정성 지수 (PSI)",
    psi_note=(
        "각 {period}의 점수를 첫 {period}의 점수와 비교한 값(같은 수로 나눈 열 구간). 점선: 행이 "
        "독립일 때 우연히 넘는 일이 {once}번에 한 번뿐인 값. 관례상 0.1을 넘으면 살펴보고, "
        "0.25를 넘으면 다른 모집단으로 봅니다. 첫 기간은 짧을 수 있습니다."
    ),
    gaps="같은 노출: 어느 모델이 순위를 더 잘 매기는가?",
    gaps_note=(
        "두 모델이 모두 점수를 매긴 노출에서, 나중 모델의 AUC에서 앞선 모델의 AUC를 뺀 값. 0의 "
        "오른쪽이면 나중 모델이 낫습니다. 대응 비교의 {level} 구간, p는 시장들에 대한 Holm 보정."
    ),
    gaps_axis="AUC 차이",
    apart="다른 노출: 어느 모델의 방문자가 더 많이 전환했는가?",
    apart_note=(
        "두 모델이 같은 시장과 기간의 서로 다른 노출을 담당했습니다. 사용자를 재표집한 {level} "
        "구간의 전환율 차이입니다. 어느 모델이 누구를 담당할지 무작위로 정했을 때만 모델이 "
        "원인이며, 그렇지 않으면 방문자가 달라서일 수 있습니다."
    ),
    apart_axis="전환율 차이",
    no_common_period="같은 기간이 아님",
    policy="한 모델 대신 다른 모델로 순위를 매기는 것의 가치는?",
    policy_note=(
        "목록마다 1순위 상품을 보여 준다고 할 때 보여 준 상품의 전환율이 가치입니다. 사용자를 "
        "재표집한 {level} 구간의 가치 차이. {logging}"
    ),
    policy_axis="가치 차이",
    policy_logging={
        "drawn": (
            "경쟁하는 상품(propensity가 있는 행)은 무작위로 뽑혔고 모두 노출되었습니다. 선택의 "
            "결과를 확실히 알기 때문에 가중치가 필요 없고 세 추정값이 일치합니다."
        ),
        "chosen": (
            "목록마다 한 상품만 무작위로 노출되었으며, 노출된 상품에 propensity의 역수를 "
            "가중합니다. 이중 강건 추정은 나머지를 다른 모델의 확률로 예측합니다."
        ),
    },
    policy_sums_to_one=(
        "모든 목록의 propensity 합이 1이어서 한 상품만 노출된 것처럼 보이지만 모든 상품에 결과가 "
        "있습니다. 하나만 노출되었다면 나머지의 'converted'를 비워 두십시오. 그렇지 않으면 이 "
        "값은 틀립니다."
    ),
    estimators={"ips": "역경향 가중 (IPS)", "snips": "자기 정규화 IPS", "dr": "이중 강건"},
    refusals={
        "missing": (
            "한 모델 대신 다른 모델로 순위를 매기는 것의 가치를 말할 수 없습니다: 점수를 매긴 "
            "노출에 propensity(무작위로 노출된 확률)가 없습니다."
        ),
        "zero": (
            "한 모델 대신 다른 모델로 순위를 매기는 것의 가치를 말할 수 없습니다: 노출 {n}건의 "
            "propensity가 0보다 크고 1 이하인 수가 아닙니다. 무작위로 노출될 수 없는 상품은 "
            "아무것도 알려 주지 않습니다."
        ),
        "no_lists": (
            "한 모델 대신 다른 모델로 순위를 매기는 것의 가치를 말할 수 없습니다: 노출 {n}건에 "
            "propensity가 있지만, 두 모델이 모두 점수를 매긴 그런 상품이 둘 이상이고 결과가 있는 "
            "목록이 없습니다."
        ),
        "mixed": (
            "한 모델 대신 다른 모델로 순위를 매기는 것의 가치를 말할 수 없습니다: {lists}개 목록 "
            "가운데 {n}개가 나머지와 다르게 기록되었습니다. propensity가 있는 모든 상품에 결과가 "
            "있거나, propensity의 합이 1이고 정확히 한 상품에만 결과가 있어야 합니다."
        ),
        "effective": (
            "한 모델 대신 다른 모델로 순위를 매기는 것의 가치를 말할 수 없습니다: 목록 "
            "{lists}개는 가중하면 {n:.0f}개와 같아 {least:.0f}개에 미치지 못합니다."
        ),
    },
    flags="표시가 붙은 행",
    flags_note="점수를 매길 때 표시가 붙은 행(모르는 시장이나 상품 등): 대체 방법이 통했는가?",
    facts={
        "data": "결과 데이터",
        "scores": "점수",
        "time": "노출 기간",
        "joined": "결합됨",
        "not_in_outcomes": "점수는 있으나 결과 데이터에 없음",
        "not_known": "점수는 있으나 결과를 모름",
        "without_score": "결과는 있으나 점수가 없음",
        "another_market": "다른 시장으로 점수를 매김",
        "set_aside": "제외된 행",
    },
    caveats="말하지 않는 것",
    caveat_list=(
        "비율이 1에서 벗어난 것은 모델 탓일 수도, 세상 탓일 수도 있습니다(캠페인, 계절, 방문자의 "
        "변화). 방문자가 달라졌는지는 점수의 안정성 지수가 알려 줍니다.",
        "점수가 없거나 아직 결과가 없는 노출은 어느 수치에도 들어 있지 않습니다. 늦게 오는 전환 "
        "때문에 마지막 {period}의 전환율은 실제보다 낮아 보일 수 있습니다.",
        "점수에 따라 무엇을 보여 줄지 정했다면, 결과는 모델 자신의 선택에 대한 것입니다. 다른 "
        "선택의 결과는 무작위로 노출한 상품만이 알려 줍니다.",
        "“차이가 보이지 않음”은 “같음”이 아닙니다. 탐지 가능한 최소 차이와 비교하십시오.",
    ),
)

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}


def words_of(language: str) -> Words:
    """The words of a language.

    Args:
        language: `en` or `ko`.

    Raises:
        SettingsError: if the report is not written in it.
    """
    return in_language(LANGUAGES, language)
