"""Charts on paper: one HTML file that opens offline, PNG and SVG."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

Chart: TypeAlias = alt.Chart | alt.LayerChart

VL_VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
"""Vega-Lite as vl-convert names it; the page holds the version that made the picture."""

WIDTH = 560
"""Pixels of a picture's plot; on a page a chart is as wide as the window lets it."""


def write_html(
    charts: Chart | Sequence[Chart],
    file: Path,
    title: str,
    *,
    notes: Sequence[str] = (),
    language: str = "en",
) -> None:
    """Write charts, each with its note and table under it, to one page that needs no network.

    Every text is escaped, since names of markets and systems come from data.

    Args:
        charts: what the functions of `charts.py` return.
        file: where; replaced if it is there.
        title: heading of the page.
        notes: sentences above the charts.
        language: of the page, as in HTML.
    """
    listed = list(charts) if isinstance(charts, Sequence) else [charts]
    write_page("charts.html", listed, file, title, {"notes": list(notes)}, language=language)


def write_page(
    template: str,
    charts: Sequence[Chart],
    file: Path,
    title: str,
    content: Mapping[str, Any],
    *,
    language: str,
) -> None:
    """Write one page of a template that extends `page.html`; it needs no network.

    Args:
        template: a file of `templates/`.
        charts: what the template shows as `charts`, in this order.
        file: where; replaced if it is there.
        title: heading of the page.
        content: what else the template names; every text in it is escaped.
        language: of the page, as in HTML.
    """
    shown = {
        "title": title,
        "language": language,
        "charts": [_on_page(chart) for chart in charts],
        "javascript": Markup(_javascript()),  # noqa: S704 - the bundle of vl-convert, not user text
    }
    file.write_text(fragment(template, {**content, **shown}), encoding="utf-8")


def fragment(template: str, content: Mapping[str, Any]) -> str:
    """What a template makes of some content, every text in it escaped.

    Args:
        template: a file of `templates/`.
        content: all that the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("purchase_predictor.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


def write_png(chart: Chart, file: Path, *, width: int = WIDTH, scale: float = 2) -> None:
    """Write one chart as a picture.

    Args:
        chart: what a function of `charts.py` returned.
        file: where.
        width: of the plot, pixels.
        scale: pixels of the picture to one of the plot.
    """
    picture = vl_convert.vegalite_to_png(_sized(chart, width), vl_version=VL_VERSION, scale=scale)
    file.write_bytes(picture)


def write_svg(chart: Chart, file: Path, *, width: int = WIDTH) -> None:
    """Write one chart as a vector drawing.

    Args:
        chart: what a function of `charts.py` returned.
        file: where.
        width: of the plot, pixels.
    """
    drawing = vl_convert.vegalite_to_svg(_sized(chart, width), vl_version=VL_VERSION)
    file.write_text(drawing, encoding="utf-8")


def _on_page(chart: Chart) -> dict[str, Any]:
    specification = chart.to_dict()
    words = specification.pop("usermeta")
    specification.pop("title", None)  # the page has it as a heading, which wraps and is read out
    # inside <script>, only "<" could end the element; JSON may write it as an escape
    safe = json.dumps(specification, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return {**words, "spec": Markup(safe)}  # noqa: S704 - escaped in the line above


def _sized(chart: Chart, width: int) -> dict[str, Any]:
    specification = chart.to_dict()
    specification["width"] = width
    specification.pop("autosize", None)
    return specification


@cache  # a few seconds in the first page of a process
def _javascript() -> str:
    # no snippet: the bundle then sets vegaEmbed on the window; the type hints wrongly want one
    bundle: str = vl_convert.javascript_bundle(vl_version=VL_VERSION)  # type: ignore[call-arg]
    return bundle.replace("</script", "<\\/script")
