"""What all commands share: options, exit codes, sentences instead of tracebacks, progress."""

import errno
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import polars as pl
import pytest
import typer

from purchase_predictor import __main__, __version__, cli
from purchase_predictor.errors import DataError, UserError

HEAVY = ("torch", "mlflow", "polars", "lightgbm", "transformers", "timm", "altair", "sklearn")


def in_a_fresh_process(code: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return finished.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, purchase_predictor; print(*sorted(m for m in sys.modules if '.' not in m))"

    assert not set(in_a_fresh_process(code).split()) & {*HEAVY, "numpy", "pydantic", "typer"}


def test_unknown_attribute_of_the_package_is_an_attribute_error() -> None:
    import purchase_predictor

    with pytest.raises(AttributeError, match="has no attribute 'Predictor'"):
        _ = purchase_predictor.Predictor


def test_the_predictor_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import purchase_predictor

    module = ModuleType("purchase_predictor.predictor")
    module.PurchasePredictor = object()
    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert purchase_predictor.PurchasePredictor is module.PurchasePredictor


@pytest.mark.parametrize("command", sorted(__main__.COMMANDS))
def test_help_of_each_command_loads_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from purchase_predictor.__main__ import main; code = main(sys.argv[1:]);"
        "print('loaded', *sorted(m for m in sys.modules if '.' not in m)); sys.exit(code)"
    )

    text, _, loaded = in_a_fresh_process(code, command, "--help").rpartition("loaded")

    assert f"purchase-predictor {command}" in text
    assert not set(loaded.split()) & set(HEAVY)


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in __main__.COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--version"]) == 0
    assert capsys.readouterr().out == f"purchase-predictor {__version__}\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("trian", "did you mean 'train'?"),
        (
            "xyz",
            "there are train, tune, compare, explain, explore, score, follow, match, "
            "sample, convert",
        ),
    ],
)
def test_unknown_command(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main([name]) == cli.MISTAKE
    assert capsys.readouterr().err == f"Error: there is no command '{name}'; {hint}\n"


def test_a_command_is_loaded_and_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("purchase_predictor.train")
    given: list[list[str]] = []
    module.main = lambda arguments: given.append(arguments) or 7
    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert __main__.main(["train", "--market", "KR"]) == 7
    assert given == [["--market", "KR"]]


def test_options_reach_the_command() -> None:
    given = {}

    def train(
        market: Annotated[str, typer.Option(help="Which.")],
        data: cli.Data = None,
        config: cli.Config = None,
        overrides: cli.Overrides = None,
        output: cli.Output = None,
        seed: cli.Seed = None,
        quiet: cli.Quiet = False,
    ) -> None:
        """Train."""
        given.update(locals())

    arguments = [
        "--market", "KR", "--set", "model.d_model=32", "--set", "training.max_epochs=1",
        "--output", "out", "--seed", "4", "--quiet",
    ]  # fmt: skip
    assert cli.run(train, "train", arguments) == 0
    assert (given["market"], given["data"], given["output"]) == ("KR", None, Path("out"))
    assert given["quiet"]
    settings = cli.settings_from(given["config"], given["overrides"], given["seed"])
    assert (settings.seed, settings.model.d_model, settings.training.max_epochs) == (4, 32, 1)


def full_disk_of_polars() -> None:
    pl.DataFrame({"a": [1]}).write_parquet("/dev/full")


def raising(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("fail", "code", "sentence"),
    [
        (lambda: raising(DataError("there is no table 'x'")), 2, "there is no table 'x'"),
        (lambda: raising(DataError("id '\x1b[31m\udc80'")), 2, r"id '\x1b[31m\udc80'"),
        (lambda: raising(KeyboardInterrupt()), 130, "interrupted"),
        (
            lambda: raising(OSError(errno.ENOSPC, "No space left on device", "out/model")),
            2,
            "the disk is full, writing out/model stopped: free some space",
        ),
        (lambda: raising(PermissionError(13, "Permission denied", "out")), 2, "no permission for"),
        pytest.param(
            full_disk_of_polars,
            2,
            "the disk is full, writing the results stopped",
            marks=pytest.mark.skipif(
                not Path("/dev/full").exists(), reason="/dev/full is of Linux"
            ),
        ),
    ],
)
def test_mistakes_end_in_one_sentence(
    fail, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def train() -> None:
        fail()

    assert cli.run(train, "train", []) == code

    error = capsys.readouterr().err
    assert error.startswith(f"Error: {sentence}")
    assert error.count("\n") == 1


def test_results_are_not_written_among_data(tmp_path: Path) -> None:
    cli.make_output(tmp_path / "new" / "folder")
    (tmp_path / "impressions.csv").write_text("")
    (tmp_path / "events").mkdir()
    with pytest.raises(UserError, match=r"holds data \(events, impressions.csv\)"):
        cli.make_output(tmp_path)
    cli.make_output(tmp_path, beside_data=True)


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "broken cable")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    def train() -> None:
        raise error

    with pytest.raises(type(error), match=str(error.args[-1])):
        cli.run(train, "train", [])


def test_one_of_several_is_chosen() -> None:
    chosen: list[str] = []
    choices = {
        "trivago": lambda: chosen.append("trivago"),
        "other": lambda: chosen.append("other"),
    }

    assert cli.run(choices, "convert", ["other"]) == 0
    assert chosen == ["other"]


def test_unknown_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    def train(seed: cli.Seed = None) -> None:
        """Train."""

    assert cli.run(train, "train", ["--sed", "3"]) == 2
    assert "--seed" in capsys.readouterr().err


def test_reporter_prints_lines_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = cli.Reporter()

    reporter.step("reading [bold]events[/bold] of \x1b[31m한국")
    reporter.table("Results", ["market", "auc"], [["KR", "0.75 [0.70, 0.80]"], ["[/US]", "-"]])
    reporter.line("done")

    shown = capsys.readouterr()
    assert "s  reading [bold]events[/bold] of \\x1b[31m한국\n" in shown.err
    assert "0.75 [0.70, 0.80]" in shown.out
    assert "[/US]" in shown.out
    assert shown.out.endswith("done\n")


def test_reporter_counts_in_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "SECONDS_BETWEEN_LINES", 0.0)

    with cli.Reporter().progress(3, "pictures") as advance:
        advance(1)
        advance(2)

    assert capsys.readouterr().err.endswith(" s  pictures: 1 of 3\n")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_quiet_and_other_processes_keep_warnings_only(
    rank: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    reporter = cli.Reporter(quiet=rank == "0")

    reporter.step("reading")
    reporter.table("Results", ["market"], [["KR"]])
    reporter.line("done")
    with reporter.progress(3, "pictures") as advance:
        advance(3)
    reporter.warn("careful")

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Warning: careful\n"


@pytest.mark.parametrize(("written", "left"), [(False, False), (True, True)])
def test_a_failed_command_leaves_no_empty_folder(
    tmp_path: Path, written: bool, left: bool
) -> None:
    folder, given = tmp_path / "runs" / "one", tmp_path / "given"
    given.mkdir()

    def command() -> None:
        cli.make_output(given)
        cli.make_output(folder)
        if written:
            (folder / "part").touch()
        raise DataError("there are no rows")

    assert cli.run(command, "train", []) == cli.MISTAKE
    assert folder.is_dir() == left
    assert folder.parent.is_dir() == left
    assert given.is_dir()


def test_data_that_are_not_there_are_told_with_one_spelled_alike(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()

    cli.require_data(None)
    cli.require_data(tmp_path / "sample")
    with pytest.raises(DataError, match=f"no data folder .*/sampel; .* '{tmp_path}/sample'"):
        cli.require_data(tmp_path / "sampel")
    with pytest.raises(DataError, match="no file of scores [^;]*/elsewhere$"):
        cli.require_data(tmp_path / "elsewhere", "file of scores")
    with pytest.raises(DataError, match="no data folder [^;]*/not/there$"):
        cli.require_data(tmp_path / "not" / "there")
