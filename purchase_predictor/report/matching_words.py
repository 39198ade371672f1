"""What the report of the match command says, in each of its languages."""

import re
from dataclasses import dataclass

from purchase_predictor.report.language import in_language


@dataclass(frozen=True)
class Words:
    """Headings, notes and patterns of the page; braces are filled in by `str.format`."""

    title: str
    what: str
    formula: str
    best: str
    nothing_measured: str
    listings: str
    listings_told: str
    listings_told_empty: str
    pictures: str
    pictures_told: str
    groups: str
    groups_told: str
    parts: str
    part_train: str
    part_validation: str
    part_test: str
    part_unused: str
    may_train: str
    may_train_told: str
    ladder: str
    ladder_note: str
    curve: str
    curve_note: str
    table: str
    rung: str
    gain: str
    gallery: str
    gallery_axis: str
    n_listings: str
    seconds: str
    note: str
    note_untrained: str
    note_words: str
    note_beside: str
    note_kept: str
    note_before: str
    note_comb: str
    pairs: str
    pairs_note: str
    match: str
    match_note: str
    missed: str
    missed_note: str
    false: str
    false_note: str
    none: str
    no_picture: str
    no_title: str
    group: str
    clusters: str
    clusters_note: str
    left_out: str
    suspects: str
    suspects_note: str
    this_listing: str
    title_like: str
    picture_like: str
    score: str
    suggestions: str
    suggestions_note: str
    check: str
    confidence: str
    mean: str
    right: str
    thresholds: str
    thresholds_note: str
    view: str
    nearest: str
    second: str
    caveats: str
    unread: str
    falls: str
    seen: str
    no_verdict: str


ENGLISH = Words(
    title="Product matching: {name}",
    what=(
        "Which listings are the same product? Listings are compared by picture and title; each "
        "rung of the ladder is a way to decide which of the nearest ones are the same. A figure "
        "is the mean over listings of their F1; a listing counts among its own matches:"
    ),
    formula="F1 = 2 · |found ∩ right| / (|found| + |right|)",
    best="Validation chose “{rung}”; in a test gallery of {gallery} listings its F1 is {f1}.",
    nothing_measured="No rung could be measured: no match groups are known.",
    listings="listings",
    listings_told="{n}, {titled} with a title",
    listings_told_empty="{n}, {titled} with a title, {empty} of them empty",
    pictures="pictures",
    pictures_told="{n}; picture hashes: {hashes}",
    groups="match groups",
    groups_told="{n}; {ungrouped} listings have none",
    parts="parts",
    part_train="train",
    part_validation="validation",
    part_test="test",
    part_unused="unused",
    may_train="may train",
    may_train_told="{n} products of the training period",
    ladder="F1 by rung",
    ladder_note=(
        "Bars: {level} intervals over match groups. Compare rungs within one gallery only: the "
        "larger the gallery, the harder the task. Gain: F1 minus that of the rung before, or of "
        "the rung whose thresholds are kept, both measured on the same resamples; where its "
        "interval holds 0, the two cannot be told apart."
    ),
    curve="F1 by gallery size",
    curve_note=(
        "Galleries of whole match groups, logarithmic axis. Bands: {level} intervals over match "
        "groups."
    ),
    table="Table",
    rung="Rung",
    gain="Gain",
    gallery="Gallery",
    gallery_axis="Listings in the gallery",
    n_listings="{n} listings",
    seconds="Seconds",
    note="Note",
    note_untrained="encoders as they were before training",
    note_words="words of titles, untrained",
    note_beside="beside the reference",
    note_kept="thresholds of “{rung}” kept",
    note_before="thresholds of the rung before kept",
    note_comb="comb alone names neighbours; united with the single views' matches",
    pairs="Examples",
    pairs_note="Words that only one of two titles has are marked. Bars: cosine in each view.",
    match="Found, and right",
    match_note="Both listings are of one match group.",
    missed="Missed",
    missed_note="The same product, but not found.",
    false="Found, but wrong",
    false_note="Taken for the same product, but of another group.",
    none="None.",
    no_picture="no picture",
    no_title="no title",
    group="group",
    clusters="Same product, different prices",
    clusters_note=(
        "Clusters of listings found to be the same, the widest price spread first. A spread may "
        "also mean a wrong match or another pack size."
    ),
    left_out="{n} more between",
    suspects="Title of one product, picture of another",
    suspects_note="Listings worth a look; the highest score is the most suspicious.",
    this_listing="This listing",
    title_like="Its title is like",
    picture_like="Its picture is like",
    score="score",
    suggestions="Suggested categories",
    suggestions_note=(
        "For listings without a category: the vote of their nearest neighbours, with its "
        "confidence."
    ),
    check=(
        "Where the category is known and was hidden, {accuracy} of {n} suggestions are right; "
        "the commonest category, always named, would be right for {commonest}. {coverage} of "
        "those listings get a suggestion."
    ),
    confidence="confidence",
    mean="mean",
    right="right",
    thresholds="Thresholds",
    thresholds_note=(
        "Largest distance (1 − cosine) that is kept; the nearest other listing is kept up to "
        "the looser one."
    ),
    view="View or stage",
    nearest="Distance",
    second="Nearest other",
    caveats="What these figures do not say",
    unread="{n} pictures could not be read and count as missing.",
    falls=(
        "F1 falls as the gallery grows: the figure of {gallery} listings does not hold for the "
        "{n} of the whole catalogue."
    ),
    seen=(
        "Test groups were never seen in training or tuning; training listings are matched by "
        "encoders that know them, so matches among them look better than those of new listings."
    ),
    no_verdict="A listing whose title and picture disagree is one to look at, no verdict.",
)

KOREAN = Words(
    title="상품 매칭: {name}",
    what=(
        "어떤 리스팅이 같은 상품인지 찾은 결과입니다. 사진과 상품명으로 리스팅을 비교하며, "
        "사다리의 각 단계는 가까운 리스팅 가운데 같은 상품을 가려내는 방법입니다. 수치는 "
        "리스팅별 F1의 평균이며, 자기 자신도 매치에 포함합니다:"
    ),
    formula="F1 = 2 · |찾은 것 ∩ 정답| / (|찾은 것| + |정답|)",
    best="검증 데이터로 고른 단계: “{rung}”. 리스팅 {gallery}개의 테스트 갤러리에서 F1 {f1}.",
    nothing_measured="매치 그룹을 알 수 없어 측정한 단계가 없습니다.",
    listings="리스팅",
    listings_told="{n}개, 상품명 있음 {titled}개",
    listings_told_empty="{n}개, 상품명 있음 {titled}개 (그중 빈 상품명 {empty}개)",
    pictures="사진",
    pictures_told="{n}개, 사진 해시 {hashes}개",
    groups="매치 그룹",
    groups_told="{n}개, 그룹이 없는 리스팅 {ungrouped}개",
    parts="데이터 구분",
    part_train="학습",
    part_validation="검증",
    part_test="테스트",
    part_unused="미사용",
    may_train="학습 가능",
    may_train_told="학습 기간의 상품 {n}개",
    ladder="단계별 F1",
    ladder_note=(
        "막대: 매치 그룹 단위의 {level} 구간. 갤러리가 클수록 어려우므로 같은 갤러리의 단계끼리만 "
        "비교하십시오. 향상: 바로 앞 단계(임계값을 물려받은 단계는 그 임계값의 단계)와의 F1 "
        "차이를 같은 재표본에서 잰 값. 구간에 0이 들어 있으면 두 단계를 구별할 수 없습니다."
    ),
    curve="갤러리 크기별 F1",
    curve_note="매치 그룹을 통째로 담은 갤러리, 로그 축. 띠: 매치 그룹 단위의 {level} 구간.",
    table="표",
    rung="단계",
    gain="향상",
    gallery="갤러리",
    gallery_axis="갤러리의 리스팅 수",
    n_listings="리스팅 {n}개",
    seconds="시간(초)",
    note="비고",
    note_untrained="학습하기 전의 인코더",
    note_words="상품명의 단어, 학습 없음",
    note_beside="참고 글에는 없는 단계",
    note_kept="“{rung}” 단계의 임계값 유지",
    note_before="앞 단계의 임계값 유지",
    note_comb="comb만으로 이웃을 찾은 뒤 개별 뷰의 매치와 합침",
    pairs="예시",
    pairs_note="한쪽 상품명에만 있는 단어를 표시했습니다. 막대: 뷰별 코사인 유사도.",
    match="찾았고 맞음",
    match_note="두 리스팅이 같은 매치 그룹입니다.",
    missed="놓침",
    missed_note="같은 상품인데 찾지 못했습니다.",
    false="찾았지만 틀림",
    false_note="같은 상품으로 보았지만 다른 매치 그룹입니다.",
    none="없음.",
    no_picture="사진 없음",
    no_title="상품명 없음",
    group="그룹",
    clusters="같은 상품, 다른 가격",
    clusters_note=(
        "같은 상품으로 찾은 리스팅 묶음, 가격 차이가 큰 순서. 가격 차이는 잘못된 매칭이나 "
        "다른 포장 단위 때문일 수도 있습니다."
    ),
    left_out="그 사이 {n}개",
    suspects="상품명과 사진이 서로 다른 상품",
    suspects_note="확인이 필요한 리스팅입니다. 점수가 높을수록 의심스럽습니다.",
    this_listing="이 리스팅",
    title_like="상품명이 비슷한 것",
    picture_like="사진이 비슷한 것",
    score="점수",
    suggestions="추천 카테고리",
    suggestions_note="카테고리가 없는 리스팅: 가까운 이웃의 투표 결과와 그 확신도.",
    check=(
        "카테고리를 아는 리스팅에서 이를 가리고 확인한 추천 {n}건의 정확도: {accuracy}. 언제나 "
        "가장 흔한 카테고리를 고르면 {commonest}. 해당 리스팅의 {coverage}에 추천이 있습니다."
    ),
    confidence="확신도",
    mean="평균",
    right="정확도",
    thresholds="임계값",
    thresholds_note=(
        "이 거리(1 − 코사인)까지 남깁니다. 자신을 뺀 가장 가까운 리스팅에는 더 느슨한 값을 씁니다."
    ),
    view="뷰 또는 단계",
    nearest="거리",
    second="가장 가까운 리스팅",
    caveats="이 수치가 말하지 않는 것",
    unread="사진 {n}장을 읽을 수 없어 없는 것으로 보았습니다.",
    falls=(
        "갤러리가 클수록 F1은 낮아집니다. 리스팅 {gallery}개에서 잰 수치를 전체 카탈로그 {n}개에 "
        "적용할 수 없습니다."
    ),
    seen=(
        "테스트 그룹은 학습과 임계값 탐색에 쓰지 않았습니다. 학습에 쓴 리스팅은 이를 이미 본 "
        "인코더가 매칭하므로, 그 매치는 새 리스팅의 매치보다 좋아 보입니다."
    ),
    no_verdict="상품명과 사진이 어긋나는 리스팅은 확인할 대상일 뿐, 판정이 아닙니다.",
)

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}

NOTES = (
    "note_untrained", "note_words", "note_beside", "note_kept", "note_before", "note_comb",
)  # fmt: skip
"""Fields of `Words` that hold the notes of rungs; `ladder.json` has them in English."""


def words_of(language: str) -> Words:
    """The words of a language.

    Args:
        language: `en` or `ko`.

    Raises:
        SettingsError: if the report is not written in it.
    """
    return in_language(LANGUAGES, language)


def note_in(note: str, words: Words) -> str:
    """The note of a rung in another language; one that is not of the fixed set stays as it is.

    Args:
        note: as `ladder.json` holds it.
        words: of the language.
    """
    for name in NOTES:
        pattern = re.escape(getattr(ENGLISH, name)).replace(r"\{rung\}", "(?P<rung>.+)")
        if found := re.fullmatch(pattern, note):
            translated: str = getattr(words, name)
            return translated.format(**found.groupdict())
    return note
