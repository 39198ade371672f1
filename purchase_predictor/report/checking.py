"""The section of the explanation's page that says whether explanations hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from purchase_predictor.report.figures import number, text
from purchase_predictor.report.language import in_language


@dataclass(frozen=True)
class CheckWords:
    """Headings and names; keys of `tests` are those of `faithfulness.json`."""

    title: str
    note: str
    columns: Sequence[str]
    tests: Mapping[str, str]
    methods: Mapping[str, str]
    passed: str
    failed: str
    told: str


ENGLISH = CheckWords(
    title="Do the explanations hold?",
    note=(
        "Tests of the explanations against the model that they explain ({level} intervals, "
        "clustered by user). None of them says that the model is right about the world."
    ),
    columns=("Test", "Method", "Result", "Wanted", "", "n"),
    tests={
        "completeness": "Contributions add up to what the model says: error",
        "deletion": "Deleting the strongest first lowers the log-odds more than at random, by",
        "insertion": "Bringing the strongest in first raises the log-odds more than at random, by",
        "comprehensiveness": "Log-odds move further without the largest than without random ones",
        "sufficiency": "Log-odds are further away with the largest alone than with random ones",
        "attention_contributions": "Rank correlation with contributions in size, within a row",
        "attention_effects": "Rank correlation with effects of phrases in size, over markets",
        "randomised_weights": "Rank correlation, in size, with the explanation by random weights",
        "violation": "Strongest contribution has another sign than its removal",
        "uniform_attention": "With uniform attention: rank correlation with its own log-odds",
        "effects_rank": "Rank correlation with the effects of levers, over markets",
        "effects_sign": "Same sign as the effects of levers",
    },
    methods={
        "integrated_gradients": "integrated gradients", "shapley": "Shapley values",
        "tree_shap": "TreeSHAP (LightGBM)",
        "attention_rollout": "attention, rolled out",
        "attention_gradient": "attention, weighed by gradients",
        "network": "network",
    },
    passed="holds",
    failed="does not hold",
    told="reported",
)  # fmt: skip

KOREAN = CheckWords(
    title="설명은 믿을 만한가?",
    note=(
        "설명이 그 모델에 충실한지 보는 시험입니다({level} 구간, 사용자별 군집). 모델이 "
        "세상에 대해 옳다는 뜻은 아닙니다."
    ),
    columns=("시험", "방법", "결과", "기준", "", "n"),
    tests={
        "completeness": "기여의 합이 모델의 답과 맞는가: 오차",
        "deletion": "강한 것부터 지울 때 무작위보다 로그 오즈가 더 내려가는 정도",
        "insertion": "강한 것부터 넣을 때 무작위보다 로그 오즈가 더 올라가는 정도",
        "comprehensiveness": "큰 것들을 뺄 때 무작위로 뺄 때보다 로그 오즈가 더 움직이는 정도",
        "sufficiency": "큰 것들만 남길 때 무작위로 남길 때보다 로그 오즈가 더 먼 정도",
        "attention_contributions": "한 노출 안에서 기여 크기와의 순위 상관",
        "attention_effects": "문구 효과 크기와의 순위 상관(시장 전체)",
        "randomised_weights": "가중치를 뒤섞은 모델의 설명과의 순위 상관(크기)",
        "violation": "가장 강한 기여의 부호가 그것을 뺀 결과와 다른 비율",
        "uniform_attention": "모든 것에 똑같이 주목할 때: 원래 로그 오즈와의 순위 상관",
        "effects_rank": "요소 효과와의 순위 상관(시장 전체)",
        "effects_sign": "요소 효과와 부호가 같은 비율",
    },
    methods={
        "integrated_gradients": "적분 기울기", "shapley": "섀플리 값",
        "tree_shap": "TreeSHAP (LightGBM)",
        "attention_rollout": "어텐션 (롤아웃)", "attention_gradient": "어텐션 (기울기 가중)",
        "network": "신경망",
    },
    passed="성립",
    failed="성립하지 않음",
    told="보고만",
)  # fmt: skip

_WANTED = {
    "deletion": ">", "insertion": ">", "comprehensiveness": ">", "sufficiency": "<",
    "completeness": "<", "randomised_weights": "<", "violation": "<",
}  # fmt: skip


def check_words(language: str) -> CheckWords:
    """The words of a language, `en` or `ko`."""
    return in_language({"en": ENGLISH, "ko": KOREAN}, language)


def check_context(
    checks: Sequence[Mapping[str, Any]], confidence: float, language: str
) -> dict[str, Any]:
    """What the template shows of the checks.

    Args:
        checks: as `faithfulness.json`.
        confidence: level of the intervals.
        language: `en` or `ko`.
    """
    words = check_words(language)
    verdict = {None: words.told, True: words.passed, False: words.failed}
    return {
        "title": words.title,
        "note": words.note.format(level=f"{confidence * 100:g}\N{NO-BREAK SPACE}%"),
        "columns": words.columns,
        "rows": [
            [
                words.tests[check["test"]], words.methods[check["method"]],
                text(dict(check), ".3g"), _wanted(check), verdict[check["passed"]],
                f"{check['n']:,}",
            ]
            for check in checks
        ],
    }  # fmt: skip


def _wanted(check: Mapping[str, Any]) -> str:
    if check["bound"] is None:
        return ""
    return f"{_WANTED[check['test']]}\N{NO-BREAK SPACE}{number(check['bound'], 'g')}"
