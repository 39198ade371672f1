"""The numbers and the HTML behind the page of `explore`, without a browser."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.schema import Tables
from purchase_predictor import explore
from purchase_predictor.errors import DataError
from purchase_predictor.explore_page import (
    NONE,
    OWN,
    POLICY,
    UPLOADED,
    Controls,
    WithPolicy,
)
from purchase_predictor.exploring_job import Case, Explorer
from purchase_predictor.predictor import PurchasePredictor

EVIL = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "\u202egnitset</bdi></article> مرحبا \u2067 {{ 7 * 7 }} ${7 * 7}",
    "👩\u200d👧 ❤\ufe0f " + "무료배송 " * 20_000,
]


@pytest.fixture(scope="module")
def explorer(small_model: PurchasePredictor, tiny_tables: Tables) -> Explorer:
    return Explorer(small_model, tiny_tables)


@pytest.fixture(scope="module")
def case(explorer: Explorer) -> Case:
    return explorer.case("KR", explorer.listings("KR")["product_id"][0])


@pytest.fixture(scope="module")
def controls(explorer: Explorer) -> Controls:
    return Controls(explorer, language="en")


def test_an_offer_as_listed_has_the_numbers_of_the_predictor(
    explorer: Explorer, case: Case, small_model: PurchasePredictor, tiny_tables: Tables
) -> None:
    """The shopper's own rows say the same as the whole data folder."""
    found = explorer.ask(case, case.offer).impression
    whole = small_model.predict_proba(tiny_tables, "fusion").filter(
        impression_id=case.impression_id
    )
    assert found.probability == pytest.approx(whole["probability"].item(), rel=1e-5)
    sessions = explorer.units.filter(unit=case.unit).select("session_id")
    own = tiny_tables.impressions.join(sessions, on="session_id", how="semi")
    rows = small_model.explain(replace(tiny_tables, impressions=own))
    own_rows = rows.filter(impression_id=case.impression_id, method="shapley")
    told = {name: value for name, value in found.modalities.items() if value}
    assert dict(own_rows.select("modality", "value").iter_rows()) == pytest.approx(told, abs=1e-5)


def test_a_changed_offer_has_the_numbers_of_a_changed_data_folder(
    explorer: Explorer, case: Case, small_model: PurchasePredictor, tiny_tables: Tables
) -> None:
    title = "한정 수량 빨간 배낭"
    offer = replace(case.offer, title=title, discount_rate=0.5, free_shipping=True)
    found = explorer.ask(case, offer).impression
    listing, shown = (
        pl.col(name) == key
        for name, key in (("product_id", case.product_id), ("impression_id", case.impression_id))
    )
    changed = replace(
        tiny_tables,
        products=tiny_tables.products.with_columns(
            title=pl.when(listing).then(pl.lit(title)).otherwise("title")
        ),
        impressions=tiny_tables.impressions.with_columns(
            discount_rate=pl.when(shown).then(0.5).otherwise("discount_rate"),
            free_shipping=pl.when(shown).then(True).otherwise("free_shipping"),
        ),
    )
    whole = small_model.predict_proba(changed, "fusion").filter(impression_id=case.impression_id)
    assert found.probability == pytest.approx(whole["probability"].item(), rel=1e-5)
    assert found.title == title
    assert found.probability != explorer.ask(case, case.offer).impression.probability


def test_a_listing_that_the_market_never_saw_takes_the_place_of_the_last_offer(
    explorer: Explorer, tiny_tables: Tables
) -> None:
    shown = explorer.shown.filter(market="MX")["product_id"]
    other = tiny_tables.products.filter(~pl.col("product_id").is_in(shown.implode()))
    case = explorer.case("MX", other["product_id"][0])
    assert case.moved
    assert case.impression_id == explorer.shown.filter(market="MX")["impression_id"][-1]
    assert 0 < explorer.ask(case, case.offer).impression.probability < 1
    for market, product in (("KR", "nothing"), ("XX", case.product_id)):
        with pytest.raises(DataError, match="there is no"):
            explorer.case(market, product)


def test_a_picture_that_is_handed_in_lies_beside_the_others(
    explorer: Explorer, case: Case, tiny_tables: Tables, tmp_path: Path
) -> None:
    image = explorer.listings("KR").drop_nulls("image")["image"][-1]
    content = (tiny_tables.folder / image).read_bytes()
    tables = explorer.tables_of(case, replace(case.offer, picture=content), tmp_path)
    name = tables.products.filter(product_id=case.product_id)["image"].item()
    assert (tables.folder / name).read_bytes() == content
    others = tables.products.filter(pl.col("product_id") != case.product_id)["image"].drop_nulls()
    assert len(others)
    assert all((tmp_path / other).is_file() for other in others)


def test_controls_that_nobody_touched_ask_for_the_offer_as_listed(
    controls: Controls, explorer: Explorer, case: Case
) -> None:
    title, discount, shipping = controls.as_listed("KR", case.product_id)
    shown = controls.ask("KR", case.product_id, title, OWN, None, discount, shipping)
    assert "+0.00 percentage points" in shown
    p = explorer.ask(case, case.offer).impression.probability
    assert shown.count(f"{100 * p:.2f}\N{NO-BREAK SPACE}%") == 4
    cheap = controls.ask("KR", case.product_id, title, NONE, None, 90.0, controls.words.yes)
    assert "+0.00 percentage points" not in cheap


@pytest.mark.parametrize("title", EVIL)
def test_no_title_harms_the_page(controls: Controls, case: Case, title: str) -> None:
    shown = controls.ask("KR", case.product_id, title, OWN, None, 10.0, controls.words.unknown)
    assert "<script" not in shown
    assert not re.findall(r"<img(?! src=\"data:)", shown)
    assert shown.count("<bdi") == shown.count("</bdi>")
    assert shown.count("<article") == shown.count("</article>") == 2
    assert len(shown) < 60_000


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"product_id": "<b>x"}, "there is no listing &#x27;&lt;b&gt;x&#x27;"),
        ({"discount": 300.0}, "this is no offer"),
        ({"picture": UPLOADED}, "No picture was handed in."),
        ({"picture": UPLOADED, "uploaded": b"x" * 30_000_000}, "more than"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(
    controls: Controls, case: Case, changes: dict[str, object], sentence: str
) -> None:
    asked = {
        "market": "KR", "product_id": case.product_id, "title": "red shoes", "picture": OWN,
        "uploaded": None, "discount": 10.0, "shipping": "yes",
    }  # fmt: skip
    assert sentence in controls.ask(**(asked | changes))


def test_choices_name_what_is_shown_most(controls: Controls, tiny_tables: Tables) -> None:
    names = controls.listings("KR")
    counts = tiny_tables.impressions.filter(market="KR")["product_id"].value_counts()
    by_id = dict(counts.iter_rows())
    assert np.all(np.diff([by_id[product] for _, product in names]) <= 0)
    assert [value for _, value in controls.pictures("KR")][:3] == [OWN, NONE, UPLOADED]


def test_every_answer_keeps_the_page_from_other_hosts() -> None:
    sent: list[dict[str, object]] = []

    async def app(_scope: object, _receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"x"})  # type: ignore[operator]

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    asyncio.run(WithPolicy(app)({}, None, send))  # type: ignore[arg-type]
    assert sent[0]["headers"] == [
        (b"a", b"b"), (b"content-security-policy", POLICY.encode("ascii")),
    ]  # fmt: skip
    assert sent[1] == {"type": "http.response.body", "body": b"x"}
    assert "http" not in POLICY


def test_a_missing_data_folder_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert explore.main(["--model", "nothing", "--data", "nowhere"]) == 2
    assert "there is no data folder nowhere" in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "find_spec", lambda _: None)
    assert explore.main(["--model", "nothing"]) == 2
    assert "purchase-predictor[explore]" in capsys.readouterr().err
