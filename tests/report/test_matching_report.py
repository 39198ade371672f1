"""The match report shows what it is given, needs no network and trusts no text."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from purchase_predictor.encoders.pictures import PictureReader
from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.report.matching import (
    Cluster,
    Listing,
    MatchReport,
    Pair,
    bottom_line,
    curve_chart,
    differing_words,
    ladder_chart,
    ladder_table,
    thumbnail,
    write_match_report,
)
from purchase_predictor.report.matching_words import ENGLISH
from purchase_predictor.report.pages import write_svg
from tests.report.matching_pages import (
    HOSTILE,
    make_ladder,
    make_picture,
    make_report,
    write,
)

DASH = "\N{NO-BREAK SPACE}–\N{WORD JOINER}\N{NO-BREAK SPACE}"
READER = PictureReader(max_bytes=1_000_000, max_pixels=1_000_000, size=8)


class Tags(HTMLParser):
    """What opens and closes, with attributes; fails where tags do not nest."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "ko"])
def test_page_needs_no_network_and_trusts_no_text(language: str, tmp_path: Path) -> None:
    markup = write(make_report(data=HOSTILE), tmp_path, language)

    tags = Tags()
    tags.feed(markup)
    assert tags.open == []
    assert HOSTILE not in markup
    assert f'<html lang="{language}">' in markup
    pictures = [attributes for tag, attributes in tags.seen if tag == "img"]
    assert len(pictures) == 5
    assert all(str(each["src"]).startswith("data:image/png;base64,") for each in pictures)
    assert not any("href" in attributes or "onerror" in attributes for _, attributes in tags.seen)
    assert not {"link", "iframe", "script"} & {tag for tag, _ in tags.seen}


def test_sections_stand_in_order_with_their_figures(tmp_path: Path) -> None:
    markup = write(make_report(), tmp_path)

    shown = [
        "<h1>Product matching: shopee</h1>", "0.750 (0.740–0.760).", "34,250, 34,000 with a title",
        ENGLISH.ladder, f"−0.040 (−0.055{DASH}+0.025)", "1,234.5", ENGLISH.curve, ENGLISH.match,
        "None.", ENGLISH.missed, "−0.25", ENGLISH.false, "no title", ENGLISH.clusters,
        "12,000 – 30,000.50", "×2.50", ENGLISH.suspects, "0.88", ENGLISH.suggestions,
        "87.4% (85.0%–89.0%) of 1,200", "right for 12.5%", "96.0% of those", "44.0% (40.0%–48.0%)",
        "97%", ENGLISH.thresholds, ENGLISH.caveats,
    ]  # fmt: skip
    places = []
    for text in shown:
        places.append(markup.index(text, places[-1] if places else 0))
    assert places == sorted(places)


def test_looser_thresholds_stand_beside_theirs(tmp_path: Path) -> None:
    markup = write(make_report(), tmp_path)

    rows = re.findall(r"<tr>(.*?)</tr>", markup[markup.index(ENGLISH.thresholds_note) :])
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert cells == [
        [], ["image", "0.310", "0.420"], ["tfidf", "0.500", ""], ["stage2", "–", "–"],
    ]  # fmt: skip


def test_page_of_nothing_says_so(tmp_path: Path) -> None:
    markup = write(MatchReport(data="nothing"), tmp_path)

    assert ENGLISH.nothing_measured in markup
    assert markup.count("None.") == 6
    assert 'class="chart"' not in markup
    assert ENGLISH.thresholds not in markup
    assert ENGLISH.caveats not in markup


@pytest.mark.parametrize("chosen", ["image", "all data"])
def test_bottom_line_is_about_the_rung_that_validation_chose_in_the_largest_gallery(
    chosen: str,
) -> None:
    f1 = {"image": "0.700 (0.690–0.710)", "all data": "0.750 (0.740–0.760)"}

    line = bottom_line(make_report(chosen=chosen), ENGLISH)

    assert line == (
        f"Validation chose “{chosen}”; in a test gallery of 6,821 listings its F1 is {f1[chosen]}."
    )


def test_a_choice_that_is_no_rung_of_the_ladder_is_an_error() -> None:
    with pytest.raises(ValueError, match="unpack"):
        bottom_line(make_report(chosen="another"), ENGLISH)


def test_suggestions_are_told_by_confidence(tmp_path: Path) -> None:
    markup = write(make_report(), tmp_path)

    part = markup[markup.index(ENGLISH.suggestions_note) : markup.index(ENGLISH.thresholds_note)]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", part)]
    assert cells == [
        [],
        ["0%–50%", "41.0%", "200", "44.0% (40.0%–48.0%)"],
        ["90%–100%", "98.0%", "1,000", "95.0%"],
    ]


def test_large_cluster_shows_the_cheapest_and_the_dearest(tmp_path: Path) -> None:
    listings = [Listing(f"id{k:02}", price=float(k)) for k in (5, 0, 3, 9, 1, 4, 8, 2, 7, 6)]

    markup = write(make_report(clusters=[Cluster(listings, 0.0, 9.0)]), tmp_path)

    part = markup[markup.index(ENGLISH.clusters) : markup.index(ENGLISH.suspects)]
    assert re.findall(r"id\d\d|4 more between", part) == [
        "id00", "id01", "id02", "4 more between", "id07", "id08", "id09",
    ]  # fmt: skip
    assert "×" not in part


@pytest.mark.parametrize(
    ("left", "right", "marked"),
    [
        ("Susu Dancow 400g", "susu DANCOW 200g", ["400g", "200g"]),
        ("신라면 120g x 40개", "신라면 120g×20개", ["x", "40개", "20개"]),
        ("tas_wanita_merah", "tas wanita biru", ["merah", "biru"]),
        ("赤い靴", "青い靴", ["赤", "青"]),
        ("same (words)", "same words!", []),
        ("<b>1</b>", "1 & 2", ["b", "b", "2"]),
    ],
)
def test_words_of_one_title_only_are_marked(left: str, right: str, marked: list[str]) -> None:
    both = differing_words(left, right)

    assert re.findall(r"<mark>(.*?)</mark>", "".join(both)) == marked
    assert [text.striptags() for text in both if "<b>" not in left] == (
        [left, right] if "<b>" not in left else []
    )
    assert not any("<b>" in text for text in both)


def test_labels_of_rungs_are_whole_and_in_order(tmp_path: Path) -> None:
    chart = ladder_chart(make_ladder())

    write_svg(chart, tmp_path / "ladder.svg")
    drawing = (tmp_path / "ladder.svg").read_text("utf-8")
    assert "…" not in drawing
    lines = ["blending: image, title,", "comb at stage 1, joint", "thresholds"]
    places = [drawing.index(f">{text}<") for text in ("image", *lines, "all data")]
    assert places == sorted(places)
    assert drawing.index(">3,000 listings<") < drawing.index(">6,821 listings<")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_charts_carry_their_words_and_table(language: str) -> None:
    report = make_report()

    for chart, n_rows in (
        (ladder_chart(report.ladder, language=language, confidence=0.9), 6),
        (curve_chart(report.curve, language=language, confidence=0.9), 2),
    ):
        words = chart.to_dict()["usermeta"]
        assert "90\N{NO-BREAK SPACE}%" in words["note"]
        assert len(words["table"]["rows"]) == n_rows
        assert {len(row) for row in words["table"]["rows"]} == {len(words["table"]["columns"])}


def test_notes_of_rungs_are_a_column_where_there_are_any() -> None:
    ladder = make_ladder()
    ladder[1]["note"] = "differs from the reference"

    table = ladder_chart(ladder).to_dict()["usermeta"]["table"]

    assert table["columns"][-1] == "Note"
    assert [row[-1] for row in table["rows"]] == ["", "differs from the reference", *[""] * 4]


def test_curve_of_one_gallery_without_intervals_is_drawn(tmp_path: Path) -> None:
    row = {"rung": "image", "gallery": 1, "f1": 1.0, "low": None, "high": None}

    write_svg(curve_chart([row]), tmp_path / "curve.svg")

    drawing = (tmp_path / "curve.svg").read_text("utf-8")
    assert "NaN" not in drawing
    assert "Listings in the gallery" in drawing


def test_console_table_keeps_every_digit_on_80_columns() -> None:
    console = Console(width=80, record=True, file=io.StringIO())

    console.print(ladder_table([*make_ladder(), {**make_ladder()[0], "rung": "[red]x"}]))

    printed = console.export_text()
    for text in ("0.790 (0.780–0.800)", "−0.040 (−0.055 to +0.025)", "6,821", "1,234.5",
                 "1, joint", "thresholds", "[red]x"):  # fmt: skip
        assert text in printed
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 80


def test_unknown_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="en or ko, not 'kr'; did you mean 'ko'"):
        write_match_report(make_report(), tmp_path / "page.html", language="kr")

    assert not (tmp_path / "page.html").exists()


def test_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    pair = Pair("match", Listing("p9", picture=b"<svg onload=x>"), Listing("p1"), {})

    with pytest.raises(DataError, match="'p9' must be a PNG or JPEG"):
        write_match_report(make_report(pairs=[pair]), tmp_path / "page.html")


@pytest.mark.parametrize(
    ("size", "kind", "expected"),
    [((400, 200), "PNG", (160, 80)), ((90, 300), "WEBP", (48, 160)), ((20, 10), "JPEG", (20, 10))],
)
def test_thumbnail_keeps_proportions(
    size: tuple[int, int], kind: str, expected: tuple[int, int]
) -> None:
    small = thumbnail(make_picture(size, kind), READER)

    with Image.open(io.BytesIO(small), formats=["JPEG"]) as picture:
        assert picture.size == expected
        colour = np.asarray(picture).reshape(-1, 3).mean(axis=0)
    assert colour == pytest.approx([0, 128, 128], abs=4)


def test_thumbnail_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    small = thumbnail(make_picture((400, 200), "JPEG", exif=exif), READER)

    with Image.open(io.BytesIO(small)) as picture:
        assert picture.size == (80, 160)


@pytest.mark.parametrize("content", [b"not a picture", make_picture((1001, 1000))])
def test_thumbnail_keeps_the_reader_limits(content: bytes) -> None:
    with pytest.raises(DataError):
        thumbnail(content, READER)


def test_specifications_are_json_with_the_hostile_name(tmp_path: Path) -> None:
    ladder = [{**make_ladder()[0], "rung": HOSTILE}]
    write_match_report(make_report(ladder=ladder, chosen=HOSTILE), tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text("utf-8")
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)
    assert len(found) == 2
    rows = next(iter(json.loads(found[0])["datasets"].values()))
    assert rows[0]["rung"] == HOSTILE
