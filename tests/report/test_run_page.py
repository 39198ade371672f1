from typing import Any

from purchase_predictor.evaluation.metrics import METRICS
from purchase_predictor.report.run_page import logged_figures, run_note
from purchase_predictor.tracked_values import flat_keys


def _figures(n_positive: int) -> dict[str, Any]:
    one = {"value": 0.7, "low": 0.6, "high": 0.8}
    return {**{metric: dict(one) for metric in METRICS}, "n": 100, "n_positive": n_positive}


def _result(markets: dict[str, int]) -> dict[str, Any]:
    system = {
        "macro": _figures(9),
        "pooled": _figures(sum(markets.values())),
        "markets": {market: _figures(n) for market, n in markets.items()},
    }
    return {
        "systems": {"fusion": system, "lightgbm": system}, "ceilings": {}, "gaps": [],
        "markets_averaged": list(markets), "markets_left_out": {},
        "intervals": {"confidence": 0.95},
    }  # fmt: skip


def test_a_local_and_a_global_run_share_the_columns_of_the_market() -> None:
    local, whole = (
        {name for name in flat_keys(logged_figures(_result(markets)["systems"])) if "KR" in name}
        for markets in ({"KR": 40}, {"KR": 40, "US": 50})
    )
    assert local == whole
    assert {"fusion.KR.auc.value", "fusion.KR.auc.low"} <= local
    assert "fusion.KR.ece" in local


def test_nine_markets_do_not_drown_the_columns() -> None:
    systems = _result({f"M{number}": 40 for number in range(9)})["systems"]
    n = len(flat_keys(logged_figures(systems))) / len(systems)
    assert n < 130 < len(flat_keys(systems)) / len(systems)


def test_the_note_says_what_answers_and_how_good_it_is() -> None:
    note = run_note(
        _result({"KR": 40}), market="KR", scope="local", champion="lightgbm", n_train=1234
    )
    assert note.startswith("The local model of market KR, of 1,234 training rows. `lightgbm`")
    assert "Test rows, market KR:" in note
    header, rule, fusion, _ = (line for line in note.splitlines() if line.startswith("|"))
    assert header.count("|") == rule.count("|") == fusion.count("|")
    assert "0.700 (0.600–0.800)" in fusion
