"""The page of `explore`: what its controls mean, and the controls themselves (Gradio)."""

import html
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.exploring_job import Answer, Case, Explorer, Offer
from purchase_predictor.report.exploring import answer_html, exploring_words, style_sheet

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

OWN, NONE, UPLOADED = "\0own", "\0none", "\0uploaded"
"""Choices of a picture that are no path inside the data folder."""

LONGEST_LABEL = 70

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; "
    "form-action 'self'"
)
"""Content security policy: nothing is fetched from, or sent to, another host."""


class Controls:
    """Turns what the controls say into offers, and answers into HTML.

    Args:
        explorer: that is asked.
        language: `en` or `ko`.
    """

    def __init__(self, explorer: Explorer, *, language: str) -> None:
        self.explorer, self.language = explorer, language
        self.words = exploring_words(language)
        self.max_bytes = explorer.predictor.settings.data.max_image_bytes
        self.listed: tuple[Case, Answer] | None = None

    def listings(self, market: str) -> list[tuple[str, str]]:
        """Label and id of each listing to choose from."""
        rows = self.explorer.listings(market).select("title", "product_id").iter_rows()
        return [(_label(title, product), product) for title, product in rows]

    def pictures(self, market: str) -> list[tuple[str, str]]:
        """Label and value of each picture to choose from: first those that are no listing's."""
        own = [(self.words.own_picture, OWN), (self.words.no_picture, NONE)]
        shown = self.explorer.listings(market).drop_nulls("image").unique("image").sort("title")
        rows = shown.select("title", "product_id", "image").iter_rows()
        others = [(_label(title, product), image) for title, product, image in rows]
        return [*own, (self.words.uploaded, UPLOADED), *others]

    def as_listed(self, market: str, product_id: str) -> tuple[str, float | None, str]:
        """Title, discount in per cent and free shipping, as the controls show them."""
        offer = self.explorer.case(market, product_id).offer
        return offer.title or "", percent(offer.discount_rate), self.named(offer.free_shipping)

    def named(self, value: bool | None) -> str:
        """Free shipping in words."""
        return {True: self.words.yes, False: self.words.no, None: self.words.unknown}[value]

    def ask(
        self,
        market: str,
        product_id: str,
        title: str,
        picture: str,
        uploaded: bytes | None,
        discount: float | None,
        shipping: str,
    ) -> str:
        """The answer as HTML; a mistake is told there too.

        Args:
            market: of the offer.
            product_id: of the listing.
            title: "" for none.
            picture: `OWN`, `NONE`, `UPLOADED` or a path inside the data folder.
            uploaded: bytes of a file that was handed in; None where none was.
            discount: in per cent; None where it is not known.
            shipping: `words.yes`, `words.no` or `words.unknown`.
        """
        words = self.words
        try:
            case = self.explorer.case(market, product_id)
            listed = case.offer
            if picture == UPLOADED and uploaded is None:
                raise DataError(words.nothing_uploaded)
            if uploaded is not None and len(uploaded) > self.max_bytes:
                raise DataError(words.too_large.format(n=f"{self.max_bytes:,}"))
            pictures = {OWN: listed.picture, NONE: None, UPLOADED: uploaded}
            # what nobody touched is as exact as in the data, not as the controls round it
            touched = discount != percent(listed.discount_rate)
            rate = None if discount is None else discount / 100
            offer = Offer(
                title=title or None if title != (listed.title or "") else listed.title,
                picture=pictures.get(picture, picture),
                discount_rate=rate if touched else listed.discount_rate,
                free_shipping={words.yes: True, words.no: False}.get(shipping),
            )
            if self.listed is None or self.listed[0] != case:
                self.listed = case, self.explorer.ask(case, listed)
            before = self.listed[1]
            after = before if offer == listed else self.explorer.ask(case, offer)
        except (DataError, SettingsError) as error:
            return f'<div class="explored"><p class="note">{html.escape(str(error))}</p></div>'
        notes = [words.moved] if case.moved else []
        notes += [after.trouble] if after.trouble else []
        return answer_html(before.impression, after.impression, notes, language=self.language)


def percent(rate: float | None) -> float | None:
    """A rate as the control shows it."""
    return None if rate is None else round(100 * rate, 1)


def _label(title: str | None, product_id: str) -> str:
    name = title or product_id
    return name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"


def page(controls: Controls) -> "gradio.Blocks":
    """The controls of the page, wired to `controls`; needs the extra `explore`."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    words, market = controls.words, controls.explorer.markets[0]
    # pictures handed in are deleted within the hour
    with gr.Blocks(title=words.title, analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gr.Markdown(f"## {words.title}")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                where = gr.Dropdown(controls.explorer.markets, value=market, label=words.market)
                what = gr.Dropdown(label=words.listing, allow_custom_value=True)
                title = gr.Textbox(label=words.words_of_title, info=words.no_title, lines=2)
                picture = gr.Dropdown(label=words.picture)
                upload = gr.UploadButton(
                    words.upload, type="binary", file_types=[".jpg", ".jpeg", ".png", ".webp"]
                )
                handed_in = gr.State(None)
                discount = gr.Number(
                    label=words.discount, minimum=0, maximum=100, step=5, precision=None
                )
                shipping = gr.Radio([words.yes, words.no, words.unknown], label=words.shipping)
                with gr.Row():
                    reset = gr.Button(words.reset)
                    go = gr.Button(words.ask, variant="primary")
            with gr.Column(scale=3, min_width=340):
                answer = gr.HTML(apply_default_css=False)
        inputs = [where, what, title, picture, handed_in, discount, shipping]
        _wire(gr, blocks, controls, inputs, answer, upload, reset, go)
    return blocks


def _wire(
    gr: Any,
    blocks: "gradio.Blocks",
    controls: Controls,
    inputs: list[Any],
    answer: Any,
    upload: Any,
    reset: Any,
    go: Any,
) -> None:
    """Which control asks what; only what a person does asks, not what the page fills in."""
    where, what, title, picture, handed_in, discount, shipping = inputs
    filled = [title, picture, discount, shipping]

    def open_market(market: str) -> tuple[Any, Any]:
        listings = controls.listings(market)
        return (
            gr.Dropdown(choices=listings, value=listings[0][1]),
            gr.Dropdown(choices=controls.pictures(market), value=OWN),
        )

    def fill(market: str, product_id: str) -> tuple[Any, ...]:
        try:
            text, rate, free = controls.as_listed(market, product_id)
        except DataError as error:
            raise gr.Error(str(error)) from error
        return text, OWN, rate, free

    def ask(begin: Any) -> None:
        # one queue of all questions: an answer never comes after that to a later question
        begin(controls.ask, inputs, answer, concurrency_limit=1, concurrency_id="ask")

    def started(event: Any) -> None:
        ask(event.then(fill, [where, what], filled).success)

    started(blocks.load(open_market, where, [what, picture]))
    started(where.input(open_market, where, [what, picture]))
    for begin in (what.input, reset.click):
        ask(begin(fill, [where, what], filled).success)
    ask(upload.upload(lambda content: (content, UPLOADED), upload, [handed_in, picture]).success)
    of_discount = (discount.submit, discount.blur)
    for begin in (title.submit, picture.input, *of_discount, shipping.input, go.click):
        ask(begin)


class WithPolicy:
    """Adds `POLICY` to every answer of a web application.

    Args:
        app: ASGI application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """As ASGI has it."""

        async def with_policy(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self.app(scope, receive, with_policy)


def application(blocks: "gradio.Blocks", *, max_bytes: int) -> "FastAPI":
    """The page as a web application that reaches no other host.

    Args:
        blocks: of `page`.
        max_bytes: of a file that is handed in.
    """
    import gradio as gr
    from fastapi import FastAPI

    fonts = ["system-ui", "Noto Sans", "Noto Sans CJK KR", "sans-serif"]
    # fonts of a theme's own would be fetched from another host
    theme = gr.themes.Base(font=fonts, font_mono=["monospace"], primary_hue="blue")
    served = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    served.add_middleware(WithPolicy)
    return gr.mount_gradio_app(
        served, blocks, path="", footer_links=[], ssr_mode=False, show_error=True,
        max_file_size=max_bytes, theme=theme, css=style_sheet(),
    )  # fmt: skip
