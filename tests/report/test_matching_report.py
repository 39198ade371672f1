"""The match report shows what it is given, needs no network and trusts no text."""

import dataclasses
import io
import json
import re
import string
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from purchase_predictor.encoders.pictures import PictureReader
from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.report.matching import (
    Band,
    CategoryCheck,
    Cluster,
    Counts,
    Listing,
    MatchReport,
    Pair,
    Suggestion,
    Suspect,
    bottom_line,
    caveats,
    curve_chart,
    differing_words,
    facts,
    ladder_chart,
    ladder_table,
    thumbnail,
    write_match_report,
)
from purchase_predictor.report.matching_words import ENGLISH, KOREAN, NOTES, note_in
from purchase_predictor.report.pages import write_svg

HOSTILE = '</script><img src=x onerror="alert(1)">'
LONG = "blending: image, title, comb at stage 1, joint thresholds"
COUNTS = Counts(
    listings=34250,
    titled=34000,
    empty=0,
    pictures=32412,
    hashes=0,
    groups=11014,
    ungrouped=12,
    parts={"train": 20000, "validation": 7000, "test": 7000, "unused": 250},
)
READER = PictureReader(max_bytes=1_000_000, max_pixels=1_000_000, size=8)


def make_picture(size: tuple[int, int] = (40, 20), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


def make_ladder() -> list[dict[str, Any]]:
    figures = {"image": 0.70, LONG: 0.79, "all data": 0.75}
    return [
        {
            "rung": rung,
            "f1": f1 + gain,
            "low": f1 + gain - 0.01,
            "high": f1 + gain + 0.01,
            "gain": None if rung == "image" else -0.04,
            "gain_low": None if rung == "image" else -0.055,
            "gain_high": None if rung == "image" else 0.025,
            "gallery": gallery,
            "seconds": 1234.5,
        }
        for rung, f1 in figures.items()
        for gallery, gain in ((6821, 0.0), (3000, 0.1))
    ]


def make_report(**changes: Any) -> MatchReport:
    first = Listing("p1", "Susu Dancow 400g", make_picture(), group="g1", price=12000.0)
    second = Listing("p2", HOSTILE, None, group=HOSTILE, price=30000.5)
    report = MatchReport(
        data="shopee",
        counts=COUNTS,
        ladder=make_ladder(),
        chosen="all data",
        curve=[
            {"rung": LONG, "gallery": n, "f1": 0.9 - n / 1e5, "low": None, "high": None}
            for n in (500, 3000)
        ],
        thresholds={"image": 0.31, "image_second": 0.42, "tfidf": 0.5, "stage2_second": None},
        pairs=[
            Pair("missed", first, second, {"image": None, "title": -0.25}),
            Pair("false", first, Listing("p3"), {HOSTILE: 0.5}),
        ],
        clusters=[Cluster([second, first], 12000.0, 30000.5, HOSTILE)],
        suspects=[Suspect(first, second, first, 0.875)],
        suggestions=[Suggestion(second, HOSTILE, 0.97)],
        category_check=CategoryCheck(
            accuracy={"value": 0.874, "low": 0.85, "high": 0.89},
            n=1200,
            coverage=0.96,
            commonest=0.125,
            bands=[
                Band(0.0, 0.5, 200, 0.41, {"value": 0.44, "low": 0.4, "high": 0.48}),
                Band(0.9, 1.0, 1000, 0.98, {"value": 0.95, "low": None, "high": None}),
            ],
        ),
        notes=[HOSTILE],
    )
    return dataclasses.replace(report, **changes)


def write(report: MatchReport, folder: Path, language: str = "en") -> str:
    """The page without the bundle of Vega and its specifications."""
    write_match_report(report, folder / "page.html", language=language)
    page = (folder / "page.html").read_text("utf-8")
    return re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)


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
        ENGLISH.ladder, "−0.040 (−0.055\N{NO-BREAK SPACE}–\N{WORD JOINER}\N{NO-BREAK SPACE}+0.025)",
        "1,234.5", ENGLISH.curve, ENGLISH.match,
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


def test_facts_tell_what_there_is() -> None:
    told = facts(dataclasses.replace(COUNTS, empty=3, hashes=5, may_train=900))

    assert told == {
        "listings": "34,250, 34,000 with a title, 3 of them empty",
        "pictures": "32,412; picture hashes: 5",
        "match groups": "11,014; 12 listings have none",
        "parts": "train 20,000, validation 7,000, test 7,000, unused 250",
        "may train": "900 products of the training period",
    }


def test_facts_say_nothing_of_what_there_is_not() -> None:
    told = facts(COUNTS)

    assert told["listings"] == "34,250, 34,000 with a title"
    assert "may train" not in told


def test_caveats_are_those_that_hold() -> None:
    told = caveats(make_report(unread=1234), ENGLISH)

    assert told == [
        "1,234 pictures could not be read and count as missing.",
        "F1 falls as the gallery grows: the figure of 6,821 listings does not hold for the 34,250 "
        "of the whole catalogue.",
        ENGLISH.seen,
        ENGLISH.no_verdict,
        HOSTILE,
    ]
    assert caveats(make_report(suspects=[]), ENGLISH) == [*told[1:3], HOSTILE]


def test_a_korean_page_says_all_its_own_words_in_korean(tmp_path: Path) -> None:
    ladder = make_ladder()
    for row, name in zip(ladder, NOTES, strict=True):
        row["note"] = getattr(ENGLISH, name).format(rung="title, min2")
    counts = dataclasses.replace(COUNTS, may_train=5)
    report = make_report(ladder=ladder, counts=counts, notes=[], unread=2)

    shown = Text()
    shown.feed(write(report, tmp_path, "ko"))

    for name, english in dataclasses.asdict(ENGLISH).items():
        for part in re.split(r"\{\w+\}", english):
            words = part.strip(" ,;.:()“”")
            # words that say as much in either language, or that are also rungs or views
            if name != "formula" and len(words) > 3 and words not in SAME:
                assert words not in shown.text, (name, words)


SAME = ("“title, min2”", "image", "title")


class Text(HTMLParser):
    """What is read on a page: no tags, no styles."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tag = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.text += "\n" + " ".join(value or "" for name, value in attrs if name == "alt")

    def handle_data(self, data: str) -> None:
        self.text += "" if self.tag == "style" else data


@pytest.mark.parametrize("name", NOTES)
def test_notes_of_rungs_are_translated(name: str) -> None:
    english = getattr(ENGLISH, name).format(rung="all “data”")

    korean = note_in(english, KOREAN)

    assert korean == getattr(KOREAN, name).format(rung="all “data”")
    assert note_in(english, ENGLISH) == english


@pytest.mark.parametrize("note", ["", "of another set", "thresholds of “x” kept, and more"])
def test_another_note_stays_as_it_is(note: str) -> None:
    assert note_in(note, KOREAN) == note


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


def test_both_languages_fill_in_the_same_braces() -> None:
    for name, english in dataclasses.asdict(ENGLISH).items():
        korean = getattr(KOREAN, name)
        braces = [
            {part[1] for part in string.Formatter().parse(text) if part[1]}
            for text in (english, korean)
        ]
        assert braces[0] == braces[1], name
        assert re.search("[가-힣]", korean), name


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
