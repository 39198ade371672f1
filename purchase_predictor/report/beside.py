"""The section of the explanation's page on another model's story of the same impressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from purchase_predictor.report.explaining_words import Words, lever_name
from purchase_predictor.report.figures import number, text
from purchase_predictor.report.language import in_language


@dataclass(frozen=True)
class MarketAgreement:
    """How far two models agree in a market.

    Attributes:
        market: whose effects they are.
        n: levers that both tell of.
        rank: rank correlation of the effects; None for too few of them.
        same_sign: share of the levers.
        against: levers whose effects are surely not zero and of opposite signs.
    """

    market: str
    n: int
    rank: float | None
    same_sign: float
    against: int


@dataclass(frozen=True)
class BesideReport:
    """Two stories of the same impressions.

    Attributes:
        first: name of the model that is explained.
        second: name of the other.
        effects: `market, lever, phrase`, `logit` and `beside`, each with its bounds.
        shares: `market, modality`, `value` and `beside`, each with its bounds; None where no
            impressions were explained.
        agreement: market by market.
        confidence: level of the intervals.
    """

    first: str
    second: str
    effects: pl.DataFrame
    shares: pl.DataFrame | None
    agreement: Sequence[MarketAgreement]
    confidence: float


@dataclass(frozen=True)
class BesideWords:
    """Headings and notes; braces are filled in by `str.format`."""

    title: str
    note: str
    agreed: str
    no_rank: str
    against: str
    effects: str
    shares: str
    market: str
    lever: str


ENGLISH = BesideWords(
    title="Two models side by side: {first} and {second}",
    note=(
        "What both say of the same impressions ({level} intervals, each model's own). They "
        "learned from some of the same rows, so the difference of two figures has no interval "
        "here. A local model of few conversions knows little of its own; the global one may have "
        "lent a market what others do."
    ),
    agreed="{market}: the same sign in {same} of {n} effects, rank correlation {rank}.",
    no_rank="not told",
    against="{n} of them surely have opposite signs.",
    effects="Effects, log-odds",
    shares="Shares of the modalities (Shapley values)",
    market="Market",
    lever="Lever",
)

KOREAN = BesideWords(
    title="두 모델 나란히: {first}, {second}",
    note=(
        "같은 노출에 대해 두 모델이 말하는 것({level} 구간, 모델마다 자기 것). 일부 같은 행에서 "
        "배웠으므로 두 숫자의 차이에는 여기서 구간이 없습니다. 구매가 적은 지역 모델은 스스로 "
        "아는 것이 적고, 전체 모델은 다른 시장의 것을 빌려 왔을 수 있습니다."
    ),
    agreed="{market}: 효과 {n}개 가운데 부호가 같은 비율 {same}, 순위 상관 {rank}.",
    no_rank="말하지 않음",
    against="그중 {n}개는 분명히 부호가 반대입니다.",
    effects="효과, 로그 오즈",
    shares="양식별 몫 (섀플리 값)",
    market="시장",
    lever="요소",
)


def beside_context(
    report: BesideReport, words: Words, modalities: Mapping[str, str], language: str
) -> dict[str, Any]:
    """What the template shows of both models.

    Args:
        report: what they say.
        words: of the page, for the names of levers.
        modalities: names of modalities.
        language: `en` or `ko`.
    """
    own = in_language({"en": ENGLISH, "ko": KOREAN}, language)
    sentences = []
    for agreed in report.agreement:
        told = own.agreed.format(
            market=agreed.market, n=agreed.n, same=f"{agreed.same_sign:.0%}",
            rank=own.no_rank if agreed.rank is None else number(agreed.rank, "+.2f"),
        )  # fmt: skip
        sentences.append(
            f"{told} {own.against.format(n=agreed.against)}" if agreed.against else told
        )
    level = f"{report.confidence * 100:g}\N{NO-BREAK SPACE}%"
    return {
        "words": own,
        "title": own.title.format(first=report.first, second=report.second),
        "note": own.note.format(level=level),
        "sentences": sentences,
        "columns": (own.market, own.lever, report.first, report.second),
        "rows": [
            [row["market"], lever_name(row, words), *_both(row, "logit", "+.2f")]
            for row in report.effects.iter_rows(named=True)
        ],
        "share_columns": (own.market, "", report.first, report.second),
        "shares": [
            [row["market"], modalities[row["modality"]], *_both(row, "value", ".2f")]
            for row in (() if report.shares is None else report.shares.iter_rows(named=True))
        ],
    }


def _both(row: Mapping[str, Any], name: str, pattern: str) -> list[str]:
    """The figures of both models with their intervals."""
    low, high = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    first = {"value": row[name], "low": row[low], "high": row[high]}
    second = {"value": row["beside"], "low": row["beside_low"], "high": row["beside_high"]}
    return [text(first, pattern), text(second, pattern)]
