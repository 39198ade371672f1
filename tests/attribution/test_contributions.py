"""Contributions through the command: files, sums, and a page that no title can harm."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from features.arrays import EncodedMarket
from features.schema import Tables
from purchase_predictor import explain
from purchase_predictor.attribution.aggregates import clustered_ratio
from purchase_predictor.attribution.contributions import SCHEMA
from purchase_predictor.attribution.sampling import sample_lists
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.contributing import title_pieces
from purchase_predictor.report.contributing_data import Impression, Word
from purchase_predictor.settings import load_settings

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "training.max_epochs=1", "pretraining.epochs=0", "training.precision=float32",
    "encoders.epochs=0", "baselines.systems=[lightgbm]", "baselines.lightgbm.max_rounds=5",
    "baselines.lightgbm.min_child_samples=5", "data.min_conversions=5",
    "data.validation_fraction=0.2",
]  # fmt: skip
EVIL = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "\u202egnitset</bdi></article> مرحبا \u2067 حذاء",
    "👩\u200d👧 ❤\ufe0f free shipping {{ 7 * 7 }} </script>",
    "x" * 50_000 + " <b>" + "무료배송" * 12_500,
]


@pytest.fixture(scope="module")
def place(tiny_tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contributions")
    PurchasePredictor(load_settings(None, QUICK)).fit(tiny_tables).save(folder / "model")
    return folder


@pytest.fixture(scope="module")
def evil_folder(tiny_folder: Path, place: Path) -> Path:
    """The same data under titles and ids that would break a careless page."""
    folder = place / "evil"
    shutil.copytree(tiny_folder, folder)
    products = pl.read_parquet(folder / "products.parquet")
    titles = [EVIL[row % len(EVIL)] for row in range(len(products))]
    products.with_columns(title=pl.Series(titles)).write_parquet(folder / "products.parquet")
    return folder


@pytest.fixture(scope="module")
def out(place: Path, evil_folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlruns/mlflow.db")
        command = ["--model", "model", "--data", str(evil_folder), "--output", "out"]
        assert (
            explain.main(
                [*command, "--impressions", "40", "--check", "--discover", "2", "--quiet"]
            )
            == 0
        )
    return place / "out"


def test_the_files_say_what_each_token_contributes(out: Path) -> None:
    rows = pl.read_parquet(out / "contributions.parquet")
    assert rows.schema == SCHEMA
    assert set(rows["method"]) == {"shapley", "integrated_gradients", "tree_shap"}
    assert 40 <= rows["impression_id"].n_unique() <= 60
    assert set(rows["market"]) == {"KR", "US", "JP", "MX"}
    of_gradients = rows.filter(pl.col("method") == "integrated_gradients")["modality"]
    assert set(of_gradients) == {"text", "clickstream", "terms", "identity-and-context"}
    shares = pl.read_parquet(out / "modalities.parquet").filter(pl.col("measure") == "share")
    total = shares.group_by("market", "method").agg(pl.col("value").sum())
    np.testing.assert_allclose(total["value"], 1.0)
    # too few conversions for a verdict on what a modality saves
    few = pl.read_parquet(out / "modalities.parquet").filter(pl.col("measure") == "log_loss")
    assert few.filter(pl.col("n_positive") < 30)["low"].is_null().all()
    assert (few["n_positive"] < 30).any()
    attention = pl.read_parquet(out / "attention.parquet")
    assert attention.schema == SCHEMA
    assert set(attention["method"]) == {"attention_rollout", "attention_gradient"}
    assert attention["value"].min() >= 0
    weights = pl.read_parquet(out / "heads.parquet").group_by("market", "layer", "head")
    # the product's parts and words, then, of each layer, events after the start, and columns
    sums = weights.agg(pl.col("value").sum())
    assert sums.filter(layer=0)["value"].is_between(0.5, 1.001).all()
    assert sums.filter(layer=1)["value"].is_between(0.999, 2.001).all()
    checks = json.loads((out / "faithfulness.json").read_text("utf-8"))
    sums = {c["method"]: c["passed"] for c in checks if c["test"] == "completeness"}
    assert sums == {"shapley": True, "integrated_gradients": True}


def test_no_title_harms_the_page(out: Path) -> None:
    page = (out / "report.html").read_text("utf-8")
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert len(re.findall("<article", body)) == len(re.findall("</article>", body)) > 1
    assert "alert" in body  # it is shown, as text
    assert "Where the network looks (attention)" in body
    assert not re.findall(r"<(?:img|b)\b(?! src=\"data:)", body)
    assert "<script>alert" not in page
    assert "{{" in body  # what looks like a template is text too
    assert max(map(len, re.findall(r"x+", body))) < 2100
    # every title is a direction of its own
    assert "\u202e" in body
    assert body.count("<bdi") == body.count("</bdi>")
    for line in body.splitlines():
        if "\u202e" in line:
            assert "<bdi" in line


def test_a_title_is_shown_a_little_further_than_it_is_read() -> None:
    title = "red shoes " + "y" * 500
    words = [Word(0, 3, 0.5), Word(4, 9, -0.25)]
    shown = Impression("i", "KR", 0.1, None, title, words, None, (), (), {})
    pieces = title_pieces(shown)
    assert pieces[:4] == [("red", 0.5), (" ", None), ("shoes", -0.25), (pieces[3][0], None)]
    assert pieces[3][0] == title[9:89] + "…"
    assert title_pieces(replace(shown, title="", words=[])) == []


def test_lists_are_drawn_whole_and_from_every_market(market: EncodedMarket) -> None:
    everything = np.ones(len(market), bool)
    drawn = sample_lists(market, everything, 40, seed=1)
    of_list = dict(zip(market.list_number, drawn, strict=True))
    assert all(
        of_list[number] == taken for number, taken in zip(market.list_number, drawn, strict=True)
    )
    for name in ("KR", "US"):
        assert 20 <= (drawn & (market.market_label == name)).sum() <= 24
    barred = everything & (np.arange(len(market)) % 7 > 0)
    other = sample_lists(market, barred, 10_000, seed=1)
    assert not set(market.list_number[~barred]) & set(market.list_number[other])
    assert (sample_lists(market, everything, 40, seed=1) == drawn).all()


def test_an_interval_over_units_of_one_row_is_the_t_interval() -> None:
    x = np.random.default_rng(0).normal(size=50)
    value, low, high = clustered_ratio(x, np.ones(50), np.arange(50), 0.9)
    expected = stats.t.interval(0.9, 49, loc=x.mean(), scale=stats.sem(x))
    assert value == pytest.approx(x.mean())
    assert (low, high) == pytest.approx(expected)
    # the same rows twice say no more
    twice = clustered_ratio(np.tile(x, 2), np.ones(100), np.tile(np.arange(50), 2), 0.9)
    assert twice == pytest.approx((value, low, high))
    assert np.isnan(clustered_ratio(x[:3], np.ones(3), np.arange(3), 0.9)[1])
