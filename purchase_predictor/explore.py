"""`python -m purchase_predictor.explore --model M`: a page to change an offer and ask again."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Literal

import typer

from purchase_predictor.cli import (
    Config,
    Data,
    Overrides,
    Quiet,
    Reporter,
    require_data,
    run,
    settings_from,
)
from purchase_predictor.errors import SettingsError

Model = Annotated[
    str,
    typer.Option(metavar="FOLDER_OR_URI", help="A model folder, or models:/NAME@ALIAS of MLflow."),
]
Host = Annotated[
    str, typer.Option(help="Address to listen at; others than this machine's own let others in.")
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")]
Language = Annotated[Literal["en", "ko"], typer.Option(help="Of the page.")]


def explore(
    model: Model,
    data: Data = None,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    language: Language = "en",
    config: Config = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Open a page on which an offer is changed and the model asked what it makes of it.

    Choose a market and a listing, change title, picture, discount and shipping: the probability
    that the shopper who saw it last buys, what the six groups contribute, and the title's words
    shaded by what they do. Offline, at an address of this machine alone; ends with Ctrl-C.
    """
    require_data(data)
    if find_spec("gradio") is None:
        raise SettingsError(
            "the page needs Gradio: python -m pip install 'purchase-predictor[explore]'"
        )
    settings = settings_from(config, overrides, None)
    from features.schema import load_tables
    from purchase_predictor import explore_page
    from purchase_predictor.exploring_job import Explorer
    from purchase_predictor.job import sample_folder
    from purchase_predictor.scoring.job import load_model

    reporter = Reporter(quiet=quiet)
    reporter.step(f"loading {model}")
    predictor, _ = load_model(model, settings.tracking)
    source = sample_folder(reporter) if data is None else data
    reporter.step(f"reading {source}")
    limits = predictor.settings.data
    tables = load_tables(
        source, require_labels=False, max_title_chars=limits.max_title_chars,
        context=predictor.preparation_.features_.context_,
    )  # fmt: skip
    controls = explore_page.Controls(Explorer(predictor, tables), language=language)
    blocks = explore_page.page(controls)
    served = explore_page.application(blocks, max_bytes=limits.max_image_bytes)
    import uvicorn

    reporter.line(f"open http://{host}:{port} (Ctrl-C ends it)")
    try:
        uvicorn.run(served, host=host, port=port, log_level="warning")
    except SystemExit as error:  # how uvicorn says that it cannot listen there
        raise SettingsError(f"cannot listen at {host}:{port}: is the port taken?") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(explore, "explore", arguments)


if __name__ == "__main__":
    sys.exit(main())
