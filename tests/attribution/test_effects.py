"""Effects of phrases and terms: exact on the model, intervals that hold the truth."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import logit

from features.arrays import EncodedMarket
from features.schema import Tables
from purchase_predictor import explain
from purchase_predictor.attribution.effects import EffectsOfLevers
from purchase_predictor.panel import FUSION
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.explaining import (
    bottom_line,
    forest_chart,
    rich_effects,
    words_of,
    write_explanation,
)
from purchase_predictor.report.explaining_words import ENGLISH, KOREAN
from purchase_predictor.settings import load_settings
from purchase_predictor.training.system import FusionSystem

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "model.parts=readout", "pretraining.epochs=0", "training.precision=float32",
    "encoders.epochs=0", "baselines.systems=[]", "data.min_conversions=5",
    "data.validation_fraction=0.2",
]  # fmt: skip
EFFECTS = [
    "market", "lever", "phrase", "logit", "logit_low", "logit_high", "points", "points_low",
    "points_high", "n_impressions",
]  # fmt: skip
CONTRASTS = ["lever", "phrase", "market", "against", "logit", "low", "high", "p", "p_holm"]


@pytest.fixture(scope="module")
def fitted(tiny_tables: Tables) -> PurchasePredictor:
    return PurchasePredictor(load_settings(None, QUICK)).fit(tiny_tables)


@pytest.fixture(scope="module")
def asked(fitted: PurchasePredictor, tiny_tables: Tables) -> EffectsOfLevers:
    fusion = fitted.panel_.systems_[FUSION]
    assert isinstance(fusion, FusionSystem)

    def predict(data: EncodedMarket) -> np.ndarray:
        return fitted.panel_.predict_proba(data, [FUSION])[FUSION]

    return EffectsOfLevers(fusion, fitted.preparation_, tiny_tables, predict=predict)


@pytest.fixture(scope="module")
def effects(asked: EffectsOfLevers) -> pl.DataFrame:
    return asked.effects(asked.levers(), confidence=0.95)


def readout_logits(fitted: PurchasePredictor, tables: Tables) -> np.ndarray:
    data = fitted.preparation_.encode(tables)
    p = fitted.panel_.systems_[FUSION].predict_proba(data)
    return logit(p)[np.argsort(data.row)]


@pytest.mark.parametrize("lever", ["discount_rate", "free_shipping"])
def test_a_term_s_effect_is_what_the_model_says_of_changed_rows(
    fitted: PurchasePredictor, tiny_tables: Tables, effects: pl.DataFrame, lever: str
) -> None:
    rows = tiny_tables.impressions
    if lever == "discount_rate":
        changed = [rows, rows.with_columns((pl.col(lever) + 0.1).clip(upper_bound=1.0))]
    else:
        changed = [rows.with_columns(pl.lit(value).alias(lever)) for value in (False, True)]
    without, with_it = (
        readout_logits(fitted, replace(tiny_tables, impressions=each)) for each in changed
    )
    for row in effects.filter(pl.col("lever") == lever).iter_rows(named=True):
        here = (rows["market"] == row["market"]).to_numpy()
        assert row["logit"] == pytest.approx((with_it - without)[here].mean(), abs=1e-4)
        assert row["n_impressions"] == here.sum()


def test_phrases_that_are_nowhere_are_known(
    asked: EffectsOfLevers, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = asked.unknown_phrases(asked.levers())
    assert "number_one" in unknown
    assert not {"free_shipping", "limited_quantity"} & set(unknown)  # titles have them
    monkeypatch.setattr(asked, "weights", np.ones_like(asked.weights))
    assert asked.unknown_phrases(asked.levers()) == []


def test_effects_and_contrasts_have_the_columns_others_rely_on(
    asked: EffectsOfLevers, effects: pl.DataFrame
) -> None:
    contrasts = asked.contrasts(asked.levers(), confidence=0.95)

    assert effects.columns[: len(EFFECTS)] == EFFECTS
    assert contrasts.columns == CONTRASTS
    n_levers = effects.select("lever", "phrase").n_unique()
    n_markets = effects["market"].n_unique()
    assert len(effects) == n_levers * n_markets
    assert len(contrasts) == n_levers * n_markets * (n_markets - 1) // 2
    assert (effects["logit_low"] < effects["logit"]).all()
    assert (contrasts["p_holm"] >= contrasts["p"]).all()
    # every difference is market less against
    by_cell = {(r["lever"], r["phrase"], r["market"]): r["logit"] for r in effects.to_dicts()}
    for row in contrasts.iter_rows(named=True):
        lever, phrase = row["lever"], row["phrase"]
        expected = by_cell[lever, phrase, row["market"]] - by_cell[lever, phrase, row["against"]]
        assert row["logit"] == pytest.approx(expected, abs=1e-9)


def test_data_without_a_lever_are_explained_all_the_same(
    asked: EffectsOfLevers, effects: pl.DataFrame, tmp_path: Path
) -> None:
    nothing = asked.effects([], confidence=0.95)
    assert nothing.schema == effects.schema
    assert nothing.is_empty()
    facts = {
        "data": "shop", "fingerprint": "0", "scope": "global", "market": "all",
        "n_impressions": 1, "n_train_conversions": 1, "randomised": False, "confidence": 0.95,
        "model_version": "0", "own_phrases": [], "nowhere": ["gift"],
    }  # fmt: skip
    page = tmp_path / "report.html"
    write_explanation(facts, nothing, asked.contrasts([], confidence=0.95), page)
    assert ENGLISH.nothing in page.read_text("utf-8")
    assert ENGLISH.nowhere.format(names="gift") in page.read_text("utf-8")
    assert not list(rich_effects(nothing).columns[0].cells)


def test_points_go_with_log_odds(effects: pl.DataFrame) -> None:
    moved = effects.filter(pl.col("logit").abs() > 1e-6)
    assert (np.sign(moved["points"]) == np.sign(moved["logit"])).all()
    assert (effects["points"].abs() <= 25.1 * effects["logit"].abs() + 1e-9).all()


@pytest.fixture(scope="module")
def place(fitted: PurchasePredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    fitted.save(folder / "model")
    return folder


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlruns/mlflow.db")


def test_of_the_training_data_impressions_of_the_test_period_are_explained(
    place: Path, tiny_folder: Path, fitted: PurchasePredictor
) -> None:
    command = ["--model", "model", "--data", str(tiny_folder), "--output", "held"]
    assert explain.main([*command, "--impressions", "12", "--quiet"]) == 0

    explained = pl.read_parquet(place / "held" / "contributions.parquet")["impression_id"]
    assert set(explained) <= set(fitted.predict_test()["impression_id"])
    page = (place / "held" / "report.html").read_text("utf-8")
    assert "They are of the test period, which the model did not learn from." in page


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_command_writes_tables_and_a_page_that_opens_offline(
    place: Path,
    tiny_folder: Path,
    asked: EffectsOfLevers,
    effects: pl.DataFrame,
    language: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    effects = effects.filter(~pl.col("phrase").is_in(asked.unknown_phrases(asked.levers())))
    command = ["--model", "model", "--data", str(tiny_folder), "--output", language]
    command += ["--impressions", "0"]
    assert explain.main([*command, "--language", language, "--quiet"]) == 0

    assert "left out, since no title has them: " in capsys.readouterr().err
    written = pl.read_parquet(place / language / "effects.parquet")
    # pictures and brands beside them are asked of the whole fusion
    written = written.filter(pl.col("lever").is_in(effects["lever"].unique().to_list()))
    np.testing.assert_allclose(written["logit"], effects["logit"], atol=1e-6)
    np.testing.assert_allclose(written["logit_low"], effects["logit_low"], atol=1e-6)
    assert pl.read_parquet(place / language / "contrasts.parquet").columns == CONTRASTS
    page = (place / language / "report.html").read_text("utf-8")
    assert f'<html lang="{language}">' in page
    assert words_of(language).association[:20] in page
    assert page.count('<div class="chart"') == 2
    without_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="http', without_scripts)


def test_a_model_without_a_readout_is_refused_in_a_sentence(
    tiny_tables: Tables, tiny_folder: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(None, [*QUICK, "model.parts=network", "training.max_epochs=1"])
    PurchasePredictor(settings).fit(tiny_tables).save(place / "network")
    command = ["--model", "network", "--data", str(tiny_folder), "--output", "no"]
    assert explain.main(command) == 2
    assert "has no readout" in capsys.readouterr().err


def test_the_answer_names_the_strongest_effect_that_is_sure() -> None:
    rows = [
        {"market": "KR", "name": "a", "logit": 0.9, "logit_low": -0.1, "logit_high": 1.9},
        {"market": "US", "name": "b", "logit": -0.5, "logit_low": -0.7, "logit_high": -0.3},
    ]
    named = pl.DataFrame(rows).with_columns(sure=pl.col("logit_high") < 0, p=pl.lit(0.01))
    line = bottom_line(named, ENGLISH)
    assert line.startswith("1 of 2 effects")
    assert "b in US, −0.50" in line
    assert bottom_line(named.head(1), KOREAN) == KOREAN.nothing
    # a phrase that has no p can never be sure, so it is not counted either
    own = named.head(1).with_columns(p=pl.lit(None, pl.Float64), sure=pl.lit(value=False))
    assert bottom_line(pl.concat([named, own]), ENGLISH).startswith("1 of 2 effects")


def test_console_and_page_say_which_effects_were_tested(effects: pl.DataFrame) -> None:
    bounds = [(0.1, 0.9, 0.01), (-0.2, 0.9, 0.2), (0.1, 0.9, None)]
    rows = pl.concat([effects.head(1)] * 3).with_columns(
        pl.Series(name, [row[place] for row in bounds], dtype=pl.Float64)
        for place, name in enumerate(("logit_low", "logit_high", "p"))
    )
    told = rich_effects(rows).columns[-1]
    assert told.header == "clear of zero"
    assert list(told.cells) == ["yes", "no", "not tested"]
    named = rows.with_columns(name=pl.lit("a"), sure=pl.col("logit_low") > 0)
    for words in (ENGLISH, KOREAN):
        page = forest_chart(named, {"confidence": 0.95}, words).to_dict()["usermeta"]["table"]
        assert page["columns"][-1] == words.sure
        assert [row[-1] for row in page["rows"]] == [words.yes, words.no, words.not_tested]


def test_phrases_of_one_s_own_are_asked_of_the_whole_model(place: Path, tiny_folder: Path) -> None:
    file = place / "own.yaml"
    file.write_text("colour:\n  KR: [파란]\n  US: [blue]\n  DE: [blau]\n", "utf-8")
    command = ["--model", "model", "--data", str(tiny_folder), "--output", "own", "--quiet"]
    assert explain.main([*command, "--impressions", "0", "--phrases", str(file)]) == 0

    found = pl.read_parquet(place / "own" / "effects.parquet").filter(pl.col("lever") == "phrase")
    assert found.select("market", "phrase").rows() == [("KR", "colour"), ("US", "colour")]
    assert found["p"].is_null().all()
    contrasts = pl.read_parquet(place / "own" / "contrasts.parquet")
    assert "phrase" not in contrasts["lever"].to_list()
    assert "(colour)" in (place / "own" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- a\n- b\n", "must hold groups of phrases"),
        ("sale: {NO: [x]}\n", "put it in quotes"),
        ("sale: {FR: [soldes]}\n", "has words of a market with titles in the data"),
    ],
)
def test_a_file_of_phrases_that_cannot_be_used_is_told_in_a_sentence(
    place: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    (place / "bad.yaml").write_text(text, "utf-8")
    command = ["--model", "model", "--data", str(tiny_folder), "--output", "bad", "--quiet"]
    assert explain.main([*command, "--impressions", "0", "--phrases", "bad.yaml"]) == 2
    assert reason in capsys.readouterr().err
