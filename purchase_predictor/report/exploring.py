"""What the page of `explore` shows of an offer as it is listed and as it was changed to."""

from dataclasses import dataclass
from importlib.resources import files

from scipy.special import logit

from purchase_predictor.report.contributing import (
    ATTRACTS,
    DETERS,
    contribution_words,
    impression_context,
)
from purchase_predictor.report.contributing_data import Impression
from purchase_predictor.report.figures import number
from purchase_predictor.report.language import in_language
from purchase_predictor.report.pages import fragment


@dataclass(frozen=True)
class ExploringWords:
    """Headings, notes and labels; braces are filled in by `str.format`."""

    title: str
    market: str
    listing: str
    words_of_title: str
    no_title: str
    picture: str
    own_picture: str
    no_picture: str
    uploaded: str
    upload: str
    nothing_uploaded: str
    too_large: str
    discount: str
    shipping: str
    yes: str
    no: str
    unknown: str
    ask: str
    reset: str
    listed: str
    changed: str
    arrow: str
    change: str
    moved: str
    groups_note: str
    caveat: str


ENGLISH = ExploringWords(
    title="What if the offer were another one?",
    market="Market",
    listing="Listing",
    words_of_title="Title",
    no_title="An empty title is no title.",
    picture="Picture",
    own_picture="its own",
    no_picture="none",
    uploaded="the one handed in",
    upload="Hand in a picture (JPEG, PNG or WebP)",
    nothing_uploaded="No picture was handed in.",
    too_large="The picture has more than {n} bytes.",
    discount="Discount, %",
    shipping="Free shipping",
    yes="yes",
    no="no",
    unknown="not known",
    ask="Ask the model",
    reset="As listed",
    listed="As listed",
    changed="Changed",
    arrow="→",
    change="{points} percentage points, {logit} in log-odds",
    moved=(
        "This listing was never shown in this market: it takes the place of the offer shown last."
    ),
    groups_note=(
        "Shapley values of the six groups, in log-odds before calibration, against an offer of "
        "which nothing is known; pale bars: as listed. The shopper and the terms of other offers "
        "stay as they were; where they met this listing before, its new title and picture show."
    ),
    caveat=(
        "This explains the model. Sellers choose titles, pictures and terms, so without offers "
        "assigned at random a difference is an association, not what a change would bring."
    ),
)

KOREAN = ExploringWords(
    title="제안이 달랐다면?",
    market="시장",
    listing="상품",
    words_of_title="제목",
    no_title="비워 두면 제목이 없는 것입니다.",
    picture="사진",
    own_picture="원래 사진",
    no_picture="없음",
    uploaded="올린 사진",
    upload="사진 올리기 (JPEG, PNG, WebP)",
    nothing_uploaded="올린 사진이 없습니다.",
    too_large="사진이 {n}바이트보다 큽니다.",
    discount="할인, %",
    shipping="무료 배송",
    yes="예",
    no="아니요",
    unknown="모름",
    ask="모델에 묻기",
    reset="원래대로",
    listed="원래",
    changed="바꾼 뒤",
    arrow="→",
    change="{points} 퍼센트포인트, 로그 오즈 {logit}",
    moved="이 시장에 나온 적이 없는 상품입니다. 마지막으로 나온 제안의 자리에 놓았습니다.",
    groups_note=(
        "여섯 묶음의 섀플리 값. 보정 전 로그 오즈이며, 아무것도 알려지지 않은 제안이 기준입니다. "
        "옅은 막대는 원래 제안입니다. 구매자와 다른 제안의 조건은 그대로이며, 이 상품을 "
        "전에 만난 곳에도 바뀐 제목과 사진이 놓입니다."
    ),
    caveat=(
        "이것은 모델을 설명합니다. 제목과 사진과 조건은 판매자가 고르므로, 무작위로 배정된 제안이 "
        "없으면 차이는 연관일 뿐이며 바꾸었을 때의 결과가 아닙니다."
    ),
)


def exploring_words(language: str) -> ExploringWords:
    """The words of a language.

    Raises:
        SettingsError: if the page is not written in it.
    """
    return in_language({"en": ENGLISH, "ko": KOREAN}, language)


def answer_html(
    listed: Impression, changed: Impression, notes: list[str], *, language: str
) -> str:
    """Both answers beside each other; every text in them is escaped.

    Args:
        listed: as the offer is in the data.
        changed: as it was changed to.
        notes: sentences on what the model did not get as it was given.
        language: `en` or `ko`.
    """
    words, cards = exploring_words(language), contribution_words(language)
    both = [*listed.modalities.values(), *changed.modalities.values()]
    largest = max(map(abs, both)) or 1.0
    rows = [
        {
            "name": name,
            "listed": number(listed.modalities[key], "+.3f"),
            "changed": number(changed.modalities[key], "+.3f"),
            "listed_style": bar_style(listed.modalities[key] / largest),
            "changed_style": bar_style(changed.modalities[key] / largest),
        }
        for key, name in cards.modalities.items()
    ]
    p = listed.probability, changed.probability
    points = number(100 * (p[1] - p[0]), "+.2f")
    content = {
        "words": words,
        "cards": cards,
        "notes": notes,
        "rows": rows,
        "listed": impression_context(listed, cards),
        "changed": impression_context(changed, cards),
        "change": words.change.format(
            points=points, logit=number(float(logit(p[1]) - logit(p[0])), "+.3f")
        ),
    }
    return fragment("exploring.html", content)


def bar_style(share: float) -> str:
    """Style of a bar that begins in the middle; `share`: in [-1, 1], to the right if positive."""
    red, green, blue = ATTRACTS if share > 0 else DETERS
    left = 50 + 50 * min(share, 0.0)
    return f"left:{left:.1f}%;width:{50 * abs(share):.1f}%;background:rgb({red},{green},{blue})"


def style_sheet() -> str:
    """Style of what `answer_html` returns, kept to the part of the page that holds it."""
    folder = files("purchase_predictor.report") / "templates"
    rules = [(folder / f"{name}.css").read_text("utf-8") for name in ("cards", "exploring")]
    return f".explored {{\n{''.join(rules)}}}\n"
