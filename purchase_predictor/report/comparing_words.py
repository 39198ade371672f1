"""What the report of the comparison says, in each of its languages."""

from dataclasses import dataclass

from purchase_predictor.report.language import in_language


@dataclass(frozen=True)
class Words:
    """Headings, notes and patterns of the page; braces are filled in by `str.format`."""

    title: str
    what: str
    bottom_line: str
    bottom_pooled: str
    own_question: str
    own_answer: str
    own_undecided: str
    nobody: str
    size_question: str
    size_answer: str
    size_unseen: str
    new_question: str
    new_answer: str
    left_out: str
    preliminary: str
    rows: str
    rows_text: str
    by_flat: str
    caveat_averages: str
    market: str
    verdict: str
    verdict_global: str
    verdict_local: str
    verdict_equivalent: str
    verdict_not_enough: str
    verdict_undecided: str
    verdict_untrained: str
    verdict_alone: str
    verdict_same: str
    gap: str
    gap_axis: str
    gap_note: str
    mean: str
    new_market: str
    arms: str
    arms_note: str
    arm: str
    auc: str
    auc_difference: str
    entropy: str
    curve: str
    curve_axis: str
    curve_gap: str
    curve_note: str
    break_even: str
    more_than: str
    fewer_than: str
    conversions: str
    detectable: str
    p_holm: str
    transfer: str
    transfer_note: str
    trained_on: str
    served: str
    never_seen: str
    never_seen_note: str
    culture: str
    culture_note: str
    trend: str
    trend_axis: str
    trend_note: str
    exploratory: str
    exploratory_note: str
    against: str
    metric: str
    table: str
    caveats: str
    caveat_primary: str
    caveat_undecided: str
    caveat_seeds: str
    caveat_dimensions: str
    caveat_flat: str
    caveat_full: str
    seeds: str
    system: str
    data: str
    kappa: str
    never: str


ENGLISH = Words(
    title="One model for all markets, or each its own?",
    what=(
        "Every market was served by a model of its own rows and by models of all markets, on the "
        "same future impressions. The gap is the difference of their AUC: how often a purchase is "
        "ranked above a non-purchase."
    ),
    bottom_line=(
        "One model for all serves {n_global} of {n:market|markets} better, their own models serve "
        "{n_local} better and either serves {n_equivalent} equally well; for {n_unknown} there is "
        "not enough data to tell."
    ),
    bottom_pooled=(
        " On average over markets like these the global model's AUC is {value} higher ({low} to "
        "{high}; zero inside means it may be none)."
    ),
    own_question="Which markets should have a model of their own?",
    own_answer="Of their own: {local}. The model for all: {everyone}. Either: {equivalent}.",
    own_undecided=(
        " Not shown either way: {unknown}. Until it is, the model for all is the safer choice: it "
        "is one to keep, and needs no conversions of the market."
    ),
    nobody="none",
    size_question="From how many conversions on?",
    size_answer="The market's own model drew level at, with {level} intervals: {found}.",
    size_unseen=(
        "Not seen: no market's own model drew level with the model for all within the training "
        "conversions that it has (at most {largest}, {market})."
    ),
    new_question="What to expect in a new country?",
    new_answer=(
        "A model that never saw the country has on average an AUC {value} ({low} to {high}) "
        "higher than one that did (below zero: lower); in single countries {least} to {most}."
    ),
    left_out=(
        "--quick left out learning curves, transfer and culture: without it LightGBM measures "
        "them, with --full the fusion does."
    ),
    preliminary="1: preliminary, a published claim needs five",
    rows="Rows",
    rows_text=(
        "{n} in training with {positive:conversion (purchase)|conversions (purchases)}, in "
        "{markets:market|markets}"
    ),
    by_flat=" By LightGBM on simple columns: not to be read beside figures of other models.",
    caveat_averages=(
        "The average in the box allows for markets that differ (random effects). “macro” is the "
        "mean of these very markets, those without a model of their own left out, and its "
        "interval is narrower."
    ),
    market="Market",
    verdict="Verdict",
    verdict_global="one model for all",
    verdict_local="its own model",
    verdict_equivalent="equivalent (within ±{margin})",
    verdict_not_enough="not enough data: {n:test conversion|test conversions}",
    verdict_untrained="not enough data: {n:conversion trains|conversions train} no model",
    verdict_alone="one model for all: {n:conversion trains|conversions train} no other",
    verdict_same="the same to {digits} digits",
    verdict_undecided="not enough data: {detectable} or more would have been seen, mostly",
    gap="Global minus local",
    gap_axis="AUC, global − local",
    gap_note=(
        "Right of zero one model for all is better. Bars: paired {level} intervals, users "
        "resampled; p is raised by the number of markets tested (Holm); “smallest detectable” is "
        "found four times in five. Where a market's rows train no model, the one for all is held "
        "against chance (AUC 0.5). Last rows: mean of the others (Hartung–Knapp), and of one more."
    ),
    mean="Mean of markets",
    new_market="A new market",
    arms="All ways to serve a market",
    arms_note=(
        "AUC within each market with {level} intervals. global: one model for all, told the "
        "country; with-adapters: its layers are tuned to the country; adapted: trained on with "
        "the market's rows; local: those rows alone; pooled: a weighted mean of global and local."
    ),
    arm="Arm",
    auc="AUC",
    auc_difference="Difference in AUC",
    entropy="Normalised entropy",
    curve="When does a market's own model catch up?",
    curve_axis="Training conversions of the local model",
    curve_gap="AUC, local − global",
    curve_note=(
        "Models of subsets of each market's users; above zero the local model has caught up with "
        "the model of all markets."
    ),
    break_even="Break-even",
    more_than="more than {n}",
    fewer_than="{n} or fewer",
    conversions="Training conversions",
    detectable="Smallest detectable",
    p_holm="p (Holm)",
    transfer="Train on one market, serve another",
    transfer_note="AUC. A row is the market trained on, a column the market served.",
    trained_on="Trained on",
    served="Serves",
    never_seen="A market never seen",
    never_seen_note=(
        "A model of all other markets, nothing learned from this one, minus one of all: below "
        "zero is what it costs to open a market without a single row of it."
    ),
    culture="Does culture tell anything of a new market?",
    culture_note=(
        "AUC in a market never seen, by what the model is told of it, minus being told nothing. "
        "Cultural dimensions are worth something only beyond the random vectors."
    ),
    trend="Global minus local by the size of a market",
    trend_axis="Training conversions",
    trend_note=(
        "The gap against log conversions, within the sizes seen; band: {level} interval of the "
        "gap that is expected of a new market of that size."
    ),
    exploratory="All contrasts",
    exploratory_note=(
        "Exploratory but for the first: p is corrected for the markets of a contrast (Holm), not "
        "for the number of contrasts. NE: normalised entropy, lower is better."
    ),
    against="Against",
    metric="Metric",
    table="Table",
    caveats="What this does not say",
    caveat_primary=(
        "One contrast was declared before looking: AUC within the market, global with country "
        "minus local. All others are exploratory."
    ),
    caveat_undecided=(
        "“Not enough data” is not “equal”: equivalence is said only where both one-sided tests "
        "show a gap within ±{margin}."
    ),
    caveat_seeds="Intervals hold the chance of test rows{and_models}; a claim needs five seeds.",
    caveat_dimensions=(
        "Cultural dimensions (Hofstede, 2015) describe countries, never persons; the reliability "
        "of uncertainty avoidance and masculinity is disputed (Minkov 2018)."
    ),
    caveat_flat=(
        "Learning curves, transfer and culture use LightGBM without pictures, titles and "
        "next-click scores, so their AUCs are below those of the arms."
    ),
    caveat_full=(
        "Learning curves, transfer and culture use the fusion, trained anew for each point from "
        "the markets named alone, encoders of pictures and titles included."
    ),
    seeds="Seeds",
    system="System",
    data="Data",
    kappa="Conversions at which pooling counts a local model half",
    never="never",
)

KOREAN = Words(
    title="모든 시장에 하나의 모델인가, 시장마다 자기 모델인가?",
    what=(
        "각 시장을 그 시장의 데이터로만 학습한 모델과 모든 시장의 데이터로 학습한 모델로 같은 "
        "미래 노출에서 비교했습니다. 차이는 AUC의 차이, 즉 구매를 비구매보다 높게 매기는 빈도의 "
        "차이입니다."
    ),
    bottom_line=(
        "{n}개 시장 가운데 {n_global}개는 모든 시장의 모델이 낫고, {n_local}개는 자기 모델이 "
        "나으며, {n_equivalent}개는 어느 쪽이든 같습니다. {n_unknown}개는 판단할 데이터가 "
        "부족합니다."
    ),
    bottom_pooled=(
        " 이런 시장들에서 평균적으로 글로벌 모델의 AUC가 {value} 높습니다({low} ~ {high}; 구간에 "
        "0이 들면 차이가 없을 수도 있습니다)."
    ),
    own_question="어느 시장이 자기 모델을 가져야 하는가?",
    own_answer="자기 모델: {local}. 모든 시장의 모델: {everyone}. 어느 쪽이든: {equivalent}.",
    own_undecided=(
        " 어느 쪽으로도 드러나지 않음: {unknown}. 드러날 때까지는 모든 시장의 모델이 안전합니다. "
        "하나만 관리하면 되고 그 시장의 구매가 없어도 됩니다."
    ),
    nobody="없음",
    size_question="구매 몇 건부터인가?",
    size_answer="자기 모델이 따라잡은 건수({level} 구간): {found}.",
    size_unseen=(
        "보이지 않음: 가진 학습 구매(최대 {largest}건, {market}) 안에서 모든 시장의 모델을 "
        "따라잡은 자기 모델이 없습니다."
    ),
    new_question="새로운 나라에서는 무엇을 예상하는가?",
    new_answer=(
        "그 나라를 본 적 없는 모델의 AUC는 본 모델보다 평균 {value}({low} ~ {high}) "
        "높습니다(음수면 낮습니다). 나라별로는 {least} ~ {most}입니다."
    ),
    left_out=(
        "--quick으로 학습 곡선, 전이, 문화를 제외했습니다. --quick이 없으면 LightGBM으로, "
        "--full이 있으면 퓨전으로 측정합니다."
    ),
    preliminary="1: 잠정적이며, 발표에는 다섯 개가 필요합니다",
    rows="데이터 수",
    rows_text="학습 {n}행, 구매 {positive}건, 시장 {markets}개",
    by_flat=" 단순한 열의 LightGBM으로 측정했으므로 다른 모델의 값과 나란히 읽지 않습니다.",
    caveat_averages=(
        "상자의 평균은 시장마다 다를 수 있음을 허용합니다(무작위 효과). “macro”는 자기 모델이 "
        "있는 바로 이 시장들의 평균이라 구간이 더 좁습니다."
    ),
    market="시장",
    verdict="판정",
    verdict_global="모든 시장의 모델",
    verdict_local="자기 모델",
    verdict_equivalent="동등 (±{margin} 이내)",
    verdict_not_enough="데이터 부족: 테스트 구매 {n}건",
    verdict_untrained="데이터 부족: 학습 구매 {n}건으로는 자기 모델이 없음",
    verdict_alone="모든 시장의 모델: 학습 구매 {n}건으로는 자기 모델이 없음",
    verdict_same="소수 {digits}자리까지 같음",
    verdict_undecided="데이터 부족: 대개 {detectable} 이상의 차이만 보임",
    gap="글로벌 − 로컬",
    gap_axis="AUC, 글로벌 − 로컬",
    gap_note=(
        "0의 오른쪽이면 모든 시장의 모델이 낫습니다. 막대: 사용자를 재표집한 {level} 구간(대응 "
        "비교), p는 시장들에 대한 Holm 보정, “탐지 가능한 최소 차이”는 다섯 번 가운데 네 번 "
        "찾아낼 차이. 자기 데이터로 모델을 학습할 수 없는 시장에서는 우연(AUC 0.5)과 비교합니다. "
        "마지막 줄: 나머지 시장의 평균(Hartung–Knapp)과 한 시장이 더 있을 때의 구간."
    ),
    mean="시장 평균",
    new_market="새로운 시장",
    arms="시장을 서비스하는 모든 방법",
    arms_note=(
        "시장 내 AUC와 {level} 구간. global: 국가를 아는 모든 시장의 모델, with-adapters: 층을 "
        "국가에 맞춤, adapted: 그 시장의 데이터로 더 학습, local: 그 데이터로만 학습, pooled: "
        "global과 local의 가중 평균."
    ),
    arm="방법",
    auc="AUC",
    auc_difference="AUC의 차이",
    entropy="정규화 엔트로피",
    curve="시장의 자기 모델은 언제 따라잡는가?",
    curve_axis="로컬 모델의 학습 구매 건수",
    curve_gap="AUC, 로컬 − 글로벌",
    curve_note=(
        "각 시장 사용자의 부분집합으로 학습한 모델. 0보다 위면 로컬 모델이 모든 시장의 모델을 "
        "따라잡은 것입니다."
    ),
    break_even="손익 분기",
    more_than="{n}건 초과",
    fewer_than="{n}건 이하",
    conversions="학습 구매 건수",
    detectable="탐지 가능한 최소 차이",
    p_holm="p (Holm)",
    transfer="한 시장에서 학습하여 다른 시장에 쓰기",
    transfer_note="AUC. 행은 학습한 시장, 열은 서비스하는 시장.",
    trained_on="학습한 시장",
    served="서비스하는 시장",
    never_seen="한 번도 보지 못한 시장",
    never_seen_note=(
        "이 시장에서 아무것도 배우지 않은 나머지 시장의 모델에서 모든 시장의 모델을 뺀 값. 0보다 "
        "아래면 데이터 없이 시장을 열 때의 비용입니다."
    ),
    culture="문화는 새로운 시장에 대해 무엇을 말해 주는가?",
    culture_note=(
        "한 번도 보지 못한 시장에서, 모델에 알려 준 정보별 AUC에서 아무것도 알려 주지 않은 AUC를 "
        "뺀 값. 문화 차원은 무작위 벡터보다 나을 때만 의미가 있습니다."
    ),
    trend="글로벌 − 로컬, 시장의 규모별",
    trend_axis="학습 구매 건수",
    trend_note=(
        "구매 건수의 로그에 대한 차이, 본 규모 안에서만. 띠: 그 규모의 새로운 시장에서 예상되는 "
        "차이의 {level} 구간."
    ),
    exploratory="모든 비교",
    exploratory_note=(
        "첫 비교를 제외하면 탐색적입니다. p는 한 비교의 시장들에 대해 보정했고(Holm) 비교의 수에 "
        "대해서는 아닙니다. NE: 정규화 엔트로피, 낮을수록 좋음."
    ),
    against="기준",
    metric="지표",
    table="표",
    caveats="말하지 않는 것",
    caveat_primary=(
        "보기 전에 정한 비교는 하나입니다: 시장 내 AUC, 국가를 아는 글로벌 − 로컬. 나머지는 모두 "
        "탐색적입니다."
    ),
    caveat_undecided=(
        "“데이터 부족”은 “같다”가 아닙니다. 동등은 두 단측 검정이 모두 ±{margin} 이내의 차이를 "
        "보일 때만 말합니다."
    ),
    caveat_seeds=(
        "구간은 테스트 데이터의 우연{and_models}을 담습니다. 발표에는 시드 다섯 개가 필요합니다."
    ),
    caveat_dimensions=(
        "문화 차원(Hofstede, 2015)은 국가를 설명하며 개인을 설명하지 않습니다. 불확실성 회피와 "
        "남성성의 신뢰도에는 이견이 있습니다(Minkov 2018)."
    ),
    caveat_flat=(
        "학습 곡선, 전이, 문화는 그림, 제목, 다음 클릭 점수 없이 LightGBM을 쓰므로 AUC가 위의 "
        "방법들보다 낮습니다."
    ),
    caveat_full=(
        "학습 곡선, 전이, 문화는 지점마다 해당 시장의 데이터만으로(그림과 제목의 인코더까지) 새로 "
        "학습한 퓨전을 씁니다."
    ),
    seeds="시드",
    system="시스템",
    data="데이터",
    kappa="부분 통합에서 로컬 모델이 절반의 비중을 갖는 구매 건수",
    never="없음",
)

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}


def words_of(language: str) -> Words:
    """The words of a language, `en` or `ko`.

    Raises:
        SettingsError: if the report is not written in it.
    """
    return in_language(LANGUAGES, language)
