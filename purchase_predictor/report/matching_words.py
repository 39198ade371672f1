"""What the report of the match command says, in each of its languages."""

from dataclasses import dataclass

from purchase_predictor.errors import SettingsError, nearest


@dataclass(frozen=True)
class Words:
    """Headings, notes and patterns of the page; braces are filled in by `str.format`."""

    what: str
    formula: str
    best: str
    nothing_measured: str
    ladder: str
    ladder_note: str
    curve: str
    curve_note: str
    table: str
    rung: str
    gallery: str
    gallery_axis: str
    n_listings: str
    seconds: str
    note: str
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
    thresholds: str
    thresholds_note: str
    view: str
    nearest: str
    second: str
    caveats: str


ENGLISH = Words(
    what=(
        "Which listings are the same product? Listings are compared by picture and title; each "
        "rung of the ladder is a way to decide which of the nearest ones are the same. A figure "
        "is the mean over listings of their F1; a listing counts among its own matches:"
    ),
    formula="F1 = 2 · |found ∩ right| / (|found| + |right|)",
    best="The best rung in a gallery of {gallery} listings is “{rung}”: F1 {f1}.",
    nothing_measured="No rung could be measured: no match groups are known.",
    ladder="F1 by rung",
    ladder_note=(
        "Bars: {level} intervals over match groups. Compare rungs within one gallery only: the "
        "larger the gallery, the harder the task."
    ),
    curve="F1 by gallery size",
    curve_note=(
        "Galleries of whole match groups, logarithmic axis. Bands: {level} intervals over match "
        "groups."
    ),
    table="Table",
    rung="Rung",
    gallery="Gallery",
    gallery_axis="Listings in the gallery",
    n_listings="{n} listings",
    seconds="Seconds",
    note="Note",
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
    check="Where the category is known and was hidden, {accuracy} of {n} suggestions are right.",
    confidence="confidence",
    thresholds="Thresholds",
    thresholds_note=(
        "Largest distance (1 − cosine) that is kept; the nearest other listing is kept up to "
        "the looser one."
    ),
    view="View or stage",
    nearest="Distance",
    second="Nearest other",
    caveats="What these figures do not say",
)

KOREAN = Words(
    what=(
        "어떤 리스팅이 같은 상품인지 찾은 결과입니다. 사진과 상품명으로 리스팅을 비교하며, "
        "사다리의 각 단계는 가까운 리스팅 가운데 같은 상품을 가려내는 방법입니다. 수치는 "
        "리스팅별 F1의 평균이며, 자기 자신도 매치에 포함합니다:"
    ),
    formula="F1 = 2 · |찾은 것 ∩ 정답| / (|찾은 것| + |정답|)",
    best="리스팅 {gallery}개 갤러리에서 가장 좋은 단계: “{rung}”, F1 {f1}.",
    nothing_measured="매치 그룹을 알 수 없어 측정한 단계가 없습니다.",
    ladder="단계별 F1",
    ladder_note=(
        "막대: 매치 그룹 단위의 {level} 구간. 갤러리가 클수록 어려우므로 같은 갤러리의 단계끼리만 "
        "비교하십시오."
    ),
    curve="갤러리 크기별 F1",
    curve_note="매치 그룹을 통째로 담은 갤러리, 로그 축. 띠: 매치 그룹 단위의 {level} 구간.",
    table="표",
    rung="단계",
    gallery="갤러리",
    gallery_axis="갤러리의 리스팅 수",
    n_listings="리스팅 {n}개",
    seconds="시간(초)",
    note="비고",
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
    check="카테고리를 아는 리스팅 {n}건에서 이를 가리고 확인한 추천 정확도: {accuracy}.",
    confidence="확신도",
    thresholds="임계값",
    thresholds_note=(
        "이 거리(1 − 코사인)까지 남깁니다. 자신을 뺀 가장 가까운 리스팅에는 더 느슨한 값을 씁니다."
    ),
    view="뷰 또는 단계",
    nearest="거리",
    second="가장 가까운 리스팅",
    caveats="이 수치가 말하지 않는 것",
)

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}


def words_of(language: str) -> Words:
    """The words of a language.

    Args:
        language: `en` or `ko`.

    Raises:
        SettingsError: if the report is not written in it.
    """
    if language not in LANGUAGES:
        known, hint = " or ".join(LANGUAGES), nearest(language, LANGUAGES)
        raise SettingsError(f"The report's language is {known}, not {language!r}{hint or '.'}")
    return LANGUAGES[language]
