"""What all commands share: options, how mistakes end, and what is shown on the way.

A command's module has a typer function and `main(arguments=None) -> int`, which is
`return run(function, name, arguments)`; both stay light to import.
"""

import errno
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from purchase_predictor.errors import DataError, SettingsError, UserError, nearest

if TYPE_CHECKING:
    from purchase_predictor.settings import Settings

# A thread that waits for the others must sleep, not spin: on a machine that does other things too,
# spinning made LightGBM and torch tens of times slower. Read once, when they are first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Command = Callable[..., None]

DATA_TABLES = ("products", "events", "impressions")

MISTAKE, INTERRUPTED = 2, 130
"""Exit codes of a user's mistake and of Ctrl-C."""

SECONDS_BETWEEN_LINES = 15.0
"""How often a bar prints a line where there is no terminal."""

_made: list[Path] = []
"""Folders that this process made for its output, the innermost first: those of a command that
failed before it wrote anything are taken away again."""

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder; without it, the sample marketplace."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file laid over the default settings."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="One setting; may be repeated."),
]
Output = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Where the command's files go.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but warnings and errors.")]


def settings_from(
    config: Path | None, overrides: Sequence[str] | None, seed: int | None
) -> "Settings":
    """Settings as the shared options give them; `--seed` wins over `--set seed=…`.

    Raises:
        SettingsError: as `load_settings`.
    """
    from purchase_predictor.settings import load_settings

    seeds = [] if seed is None else [f"seed={seed}"]
    return load_settings(config, [*(overrides or []), *seeds])


def require_data(path: Path | None, what: str = "data folder") -> None:
    """Refuse data that are not there, before anything heavy is imported.

    Args:
        path: as it was given; None asks for the sample marketplace.
        what: it is, for the sentence.

    Raises:
        DataError: there is nothing; names what lies beside it and is spelled alike.
    """
    if path is None or path.exists():
        return
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    places = {place.name: str(place) for place in beside}
    raise DataError(f"there is no {what} {path}{nearest(path.name, places, shown=places)}")


def make_output(folder: Path, *, beside_data: bool = False) -> None:
    """Make the folder of a command's files, before any work is done.

    Args:
        folder: that is to be there, empty or not.
        beside_data: whether it may hold the tables of a data set: a file that the user named may
            lie there, a run with files of its own may not.

    Raises:
        SettingsError: a file is in the way, or the folder holds the tables of a data set.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingsError(f"--output {folder} is a file, or lies under one") from error
    tables = sorted(file.name for file in folder.iterdir() if file.stem in DATA_TABLES)
    if tables and not beside_data:
        raise SettingsError(
            f"--output {folder} holds data ({', '.join(tables)}), and results are not written "
            "among it: name another folder"
        )
    _made.extend(new)


def run(
    command: Command | Mapping[str, Command], name: str, arguments: Sequence[str] | None = None
) -> int:
    """Run a command so that a user's mistake ends in one sentence and not in a traceback.

    Args:
        command: a function whose parameters are typer options and whose docstring is the help;
            or several by the word that chooses among them.
        name: of the command.
        arguments: of the command line, without the program; None takes those of the process.

    Returns:
        The exit code: 0, 2 for a mistake or a disk that cannot be written, 130 for Ctrl-C.
    """
    _made.clear()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a title may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    # usage errors are printed by typer; a traceback of ours is Python's own, without locals
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    choices = {name: command} if callable(command) else command
    for choice, function in choices.items():
        app.command(choice)(_guarded(function))
    try:
        app(
            args=None if arguments is None else list(arguments),
            prog_name=f"purchase-predictor {name}",
        )
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0


def _guarded(command: Command) -> Command:
    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except UserError as error:
            _fail(str(error), MISTAKE)
        except KeyboardInterrupt:
            _fail("interrupted", INTERRUPTED)
        except _errors_of_the_disk() as error:
            sentence = _disk_sentence(error)
            if sentence is None:
                raise
            _fail(sentence, MISTAKE)

    return guarded


def _fail(sentence: str, code: int) -> None:
    typer.echo(f"Error: {printable(sentence)}", err=True)
    for folder in _made:
        with suppress(OSError):  # something was written to it
            folder.rmdir()
    raise SystemExit(code)


def _errors_of_the_disk() -> tuple[type[Exception], ...]:
    """What a full disk raises; polars has an error of its own and is not imported for that."""
    polars = sys.modules.get("polars.exceptions")
    return (OSError,) if polars is None else (OSError, polars.PolarsError)


def _disk_sentence(error: Exception) -> str | None:
    code = getattr(error, "errno", None)
    name = getattr(error, "filename", None)
    place = f" {name}" if name else ""
    if code in {errno.ENOSPC, errno.EDQUOT} or f"os error {errno.ENOSPC})" in str(error):
        return (
            f"the disk is full, writing{place or ' the results'} stopped: free some space or name "
            "another folder with --output; nothing half-written counts as a result"
        )
    if code in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"no permission for{place or ' a file'}: {os.strerror(code)}"
    return None


def printable(text: str) -> str:
    """Text with control characters escaped: names come from data and may hold terminal codes."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
        for letter in text
    )


class Reporter:
    """Tells what is going on, on stderr, and results, on stdout.

    Bars where stderr is a terminal, plain lines elsewhere. Only the first process of a
    distributed run speaks.

    Args:
        quiet: only warnings are printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet or os.environ.get("RANK", "0") != "0"
        self.progress_console = _console(stderr=True)
        self.result_console = _console(stderr=False)
        self.start = time.monotonic()

    def step(self, text: str) -> None:
        """Print a line with the time since the start."""
        if not self.quiet:
            elapsed = time.monotonic() - self.start
            self.progress_console.print(Text(f"{elapsed:7.1f} s  {printable(text)}"))

    def warn(self, text: str) -> None:
        """Print a warning, quiet or not."""
        self.progress_console.print(Text(f"Warning: {printable(text)}"))

    @contextmanager
    def progress(self, total: int, label: str) -> Iterator[Callable[[int], None]]:
        """Show how far something is.

        Args:
            total: units of work.
            label: what is being done.

        Yields:
            A function that takes the number of units just finished.
        """
        if self.quiet:
            yield lambda _: None
        elif self.progress_console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.progress_console, transient=True) as bars:
                task = bars.add_task(printable(label), total=total)
                yield functools.partial(bars.advance, task)
        else:
            yield self._lines(total, label)

    def _lines(self, total: int, label: str) -> Callable[[int], None]:
        finished, told = 0, time.monotonic()

        def advance(amount: int) -> None:
            nonlocal finished, told
            finished += amount
            if time.monotonic() - told >= SECONDS_BETWEEN_LINES and finished < total:
                told = time.monotonic()
                self.step(f"{label}: {finished} of {total}")

        return advance

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table of results: the first column to the left, the others to the right.

        Args:
            title: above it.
            columns: their headings.
            rows: as many cells as there are columns.
        """
        if self.quiet:
            return
        table = Table(title=Text(printable(title)), title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(Text(printable(column)), justify="right" if number else "left")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self.result_console.print(table)

    def show(self, table: Table) -> None:
        """Print a finished table of results."""
        if not self.quiet:
            self.result_console.print(table)

    def line(self, text: str) -> None:
        """Print a line of results."""
        if not self.quiet:
            self.result_console.print(Text(printable(text)))


def _console(*, stderr: bool) -> Console:
    """A console that never guesses at markup; without a terminal lines are not cut at 80."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    return console
