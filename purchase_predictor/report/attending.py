"""The section of the explanation's page on attention: what it agrees with comes first."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import polars as pl

from purchase_predictor.report.checking import check_words
from purchase_predictor.report.contributing_data import ContributionReport
from purchase_predictor.report.figures import NOTHING, number, text
from purchase_predictor.report.language import in_language

TOKENS_OF_HEAD = 3


@dataclass(frozen=True)
class AttentionWords:
    """Headings and names; braces are filled in by `str.format`."""

    title: str
    note: str
    columns: Sequence[str]
    by_head: str
    by_head_note: str
    layer: str
    head: str
    reading: str
    looks_at: str


ENGLISH = AttentionWords(
    title="Where the network looks (attention)",
    note=(
        "Shown because people ask for it. Attention has no sign: it cannot tell attraction from "
        "deterrence, and what is looked at need not count. It is of the network alone; the "
        "readout attends to nothing. So read it only as far as it agrees with contributions and "
        "effects: 1 is the same order, 0 none, below 0 the opposite ({level} intervals, clustered "
        "by user)."
    ),
    columns=(
        "Rank correlation", "with contributions in size", "n", "with effects of phrases in size",
        "n",
    ),
    by_head="By layer and head",
    by_head_note="What each head looks at most: mean weight, over all markets.",
    layer="Layer",
    head="Head",
    reading="reading of the product",
    looks_at="Looks at",
)  # fmt: skip

KOREAN = AttentionWords(
    title="신경망이 보는 곳 (어텐션)",
    note=(
        "자주 묻기 때문에 보입니다. 어텐션에는 부호가 없어 끌어당기는 것과 밀어내는 것을 가리지 "
        "못하고, 본다고 해서 중요한 것도 아닙니다. 신경망만의 것이며 직접 푼 부분은 아무것도 보지 "
        "않습니다. 그러니 기여와 효과에 맞는 만큼만 읽으십시오. 1은 같은 순서, 0은 무관, 0보다 "
        "작으면 반대입니다({level} 구간, 사용자별 군집)."
    ),
    columns=("순위 상관", "기여 크기와", "n", "문구 효과 크기와", "n"),
    by_head="층과 헤드별",
    by_head_note="헤드마다 가장 많이 보는 것: 모든 시장의 평균 가중치.",
    layer="층",
    head="헤드",
    reading="상품 읽기",
    looks_at="보는 곳",
)  # fmt: skip


def attention_context(report: ContributionReport, language: str) -> dict[str, Any] | None:
    """What the template shows of attention; None where none was read.

    Args:
        report: contributions, with the attention of the same impressions.
        language: `en` or `ko`.
    """
    words = in_language({"en": ENGLISH, "ko": KOREAN}, language)
    if report.heads is None:
        return None
    methods = check_words(language).methods
    rows = []
    for agreed in report.attention:
        value, low, high = agreed.with_contributions
        known = {"value": value, "low": low, "high": high}
        effects = agreed.with_effects
        rows.append(
            [
                methods[agreed.method],
                text({k: None if isnan(v) else v for k, v in known.items()}, "+.2f"),
                f"{agreed.n:,}",
                NOTHING if effects is None else number(effects, "+.2f"),
                f"{agreed.n_effects:,}",
            ]
        )
    return {
        "words": words,
        "note": words.note.format(level=f"{report.confidence * 100:g}\N{NO-BREAK SPACE}%"),
        "columns": words.columns,
        "rows": rows,
        "head_columns": (words.layer, words.head, words.looks_at),
        "heads": head_rows(report.heads, words),
    }


def head_rows(heads: pl.DataFrame, words: AttentionWords) -> list[list[str]]:
    """A row for each layer and head: what it looks at most.

    Args:
        heads: as `heads.parquet`.
        words: of the page.
    """
    weighed = (
        heads.group_by("layer", "head", "token")
        .agg((pl.col("value") * pl.col("n_impressions")).sum())
        .with_columns(pl.col("value") / heads.unique("market")["n_impressions"].sum())
        .sort("layer", "head", "value", descending=[False, False, True])
        .group_by("layer", "head", maintain_order=True)
        .agg(pl.col("token", "value").head(TOKENS_OF_HEAD))
    )
    return [
        [
            str(layer) if layer else words.reading,
            str(head + 1),
            ", ".join(
                f"{token} {number(value, '.2f')}"
                for token, value in zip(tokens, values, strict=True)
            ),
        ]
        for layer, head, tokens, values in weighed.iter_rows()
    ]
