"""A study that is killed, shared by processes, or kept in a database."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from features.arrays import EncodedMarket
from purchase_predictor.errors import SettingsError
from purchase_predictor.training.search import Range
from purchase_predictor.training.shapes import ContentSizes
from purchase_predictor.tuning import trials
from purchase_predictor.tuning.prepared import Prepared

SPACE = {"training.learning_rate": Range(low=0.0003, high=0.003, log=True)}
SIZES = ContentSizes(n_identities=12, n_categories=7, n_brands=7, n_word_pieces=40)
POSTGRES = os.environ.get("PURCHASE_PREDICTOR_TEST_POSTGRES")


class Fake(trials.Trials):
    """Trials of three epochs whose losses follow from the value alone."""

    def try_out(self, name: str, values: Mapping[str, object], on_epoch: object) -> float:
        loss = abs(float(str(values["training.learning_rate"])) - 0.002)
        for step in range(3):
            self.epochs.append(step)
            on_epoch("fusion", step, {"log_loss": loss})  # type: ignore[operator]
        return loss


def make(market: EncodedMarket, storage: optuna.storages.BaseStorage) -> Fake:
    prepared = Prepared(data=market, sizes=SIZES, clicks=None, click_auc={}, seconds=1.0)
    fake = Fake(prepared, None, [], storage=storage, identity="d", seed=0, step=lambda _: None)
    fake.epochs = []
    return fake


def test_trials_that_promise_nothing_are_given_up(market: EncodedMarket, tmp_path: Path) -> None:
    fake = make(market, trials.open_storage(None, tmp_path / "j"))
    study = fake.run("fusion", SPACE, 20)

    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert 0 < len(pruned) < 15
    assert all(trial.number >= trials.N_STARTUP for trial in pruned)
    assert len(fake.epochs) == 3 * 20 - len(pruned)  # given up in the second epoch
    found = trials.describe(study)
    assert (found["n_trials"], found["n_pruned"]) == (20, len(pruned))


def test_what_a_dead_process_was_running_is_run_again(
    market: EncodedMarket, tmp_path: Path
) -> None:
    fake = make(market, trials.open_storage(None, tmp_path / "j"))
    study = fake.run("fusion", SPACE, 3)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    lost = study.ask()
    lost.suggest_float("training.learning_rate", 0.0003, 0.003, log=True)
    lost.set_user_attr("process", f"{socket.gethostname()}:{ended.pid}")

    again = make(market, trials.open_storage(None, tmp_path / "j")).run("fusion", SPACE, 4)

    assert [t.number for t in again.get_trials(states=(TrialState.FAIL,))] == [lost.number]
    assert trials.finished(again)[-1].params == lost.params
    assert len(trials.taken(again)) == 4


def test_what_another_process_is_running_counts(market: EncodedMarket, tmp_path: Path) -> None:
    fake = make(market, trials.open_storage(None, tmp_path / "j"))
    study = fake.run("fusion", SPACE, 2)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        running = study.ask()
        running.set_user_attr("process", f"{socket.gethostname()}:{other.pid}")
        again = make(market, trials.open_storage(None, tmp_path / "j")).run("fusion", SPACE, 4)
        other.kill()

    assert len(trials.finished(again)) == 3
    assert again.trials[running.number].state == TrialState.RUNNING


def test_a_database_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="storage of the study cannot be used"):
        trials.open_storage("sqlite:////nowhere/at/all.db", tmp_path / "j")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL: the one that the environment names, or one started here."""
    if POSTGRES:
        yield POSTGRES
        return
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    found = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    programs = next((Path(path).parent for path in found if path), None)
    if programs is None:
        pytest.skip("no PostgreSQL: set PURCHASE_PREDICTOR_TEST_POSTGRES to the URL of one")
    folder = tmp_path_factory.mktemp("pg")
    run: dict[str, Any] = {"check": True, "capture_output": True, "timeout": 60, "cwd": "/"}
    if os.geteuid() == 0:  # it does not start as root
        name = next((name for name in ("postgres", "nobody") if _is_user(name)), None)
        if name is None:
            pytest.skip("PostgreSQL does not start as root, and there is no user to start it as")
        folder = Path(tempfile.mkdtemp(prefix="pg"))
        shutil.chown(folder, name)
        run["user"] = name
    options = f"-k {folder} -c listen_addresses=''"
    subprocess.run([programs / "initdb", "-D", folder / "data", "-U", "tester"], **run)
    start = [programs / "pg_ctl", "-D", folder / "data", "-o", options, "-w", "start"]
    # its output goes to a file: a pipe would be waited for as long as the server lives
    run |= {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*start, "-l", folder / "log"], **run)
    yield f"postgresql+psycopg://tester@/postgres?host={folder}"
    subprocess.run([programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"], **run)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def test_a_study_lives_in_a_real_database(
    market: EncodedMarket, tmp_path: Path, postgres: str
) -> None:
    first, second = (trials.open_storage(postgres, tmp_path / "j") for _ in range(2))
    make(market, first).run("fusion", SPACE, 3)

    again = make(market, second)
    study = again.run("fusion", SPACE, 6)

    assert len(trials.taken(study)) == 6
    assert 0 < len(again.epochs) <= 9
    assert not (tmp_path / "j").exists()
    for storage in (first, second):
        assert isinstance(storage, RDBStorage)
        storage.scoped_session.remove()
        storage.engine.dispose()
