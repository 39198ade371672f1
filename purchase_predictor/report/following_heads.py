"""Headings of the tables in the report of what happened after scoring."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Heads:
    """Headings of tables; charts name their axes by them, too."""

    model: str
    market: str
    impressions: str
    conversions: str
    rate: str
    predicted: str
    ratio: str
    slope: str
    ece: str
    auc: str
    entropy: str
    lift: str
    bin: str
    interval: str
    arm: str
    against: str
    metric: str
    difference: str
    p_holm: str
    detectable: str
    verdict: str
    common_period: str
    users_both: str
    estimator: str
    effective: str
    lists: str
    lists_apart: str
    value_of: str
    flag: str
    by_chance: str


ENGLISH_HEADS = Heads(
    model="Model", market="Market", impressions="Impressions", conversions="Conversions",
    rate="Realised rate", predicted="Mean prediction", ratio="Mean prediction / realised rate",
    slope="Calibration slope", ece="Calibration error (ECE)", auc="AUC",
    entropy="Normalised entropy", lift="Lift at 10 %", bin="Bin", interval="Interval",
    arm="Model", against="Against", metric="Metric", difference="Difference", p_holm="p (Holm)",
    detectable="Smallest detectable", verdict="Verdict", common_period="Common period",
    users_both="Users of both", estimator="Estimate", effective="Effective lists", lists="Lists",
    lists_apart="shown differently", value_of="Value", flag="Flag", by_chance="By chance up to",
)  # fmt: skip

KOREAN_HEADS = Heads(
    model="모델", market="시장", impressions="노출", conversions="전환", rate="실제 전환율",
    predicted="평균 예측", ratio="평균 예측 / 실제 전환율", slope="보정 기울기",
    ece="보정 오차 (ECE)", auc="AUC", entropy="정규화 엔트로피", lift="상위 10 % 향상도",
    bin="구간 번호", interval="구간", arm="모델", against="기준", metric="지표",
    difference="차이", p_holm="p (Holm)", detectable="탐지 가능한 최소 차이", verdict="판정",
    common_period="공통 기간", users_both="양쪽 모두의 사용자", estimator="추정",
    effective="유효 목록 수", lists="목록", lists_apart="선택이 다른 목록", value_of="가치",
    flag="표시", by_chance="우연의 상한",
)  # fmt: skip
