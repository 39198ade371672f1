from importlib import resources
from pathlib import Path

import pytest
import yaml

from purchase_predictor.errors import SettingsError
from purchase_predictor.settings import known_keys, load_settings


def test_every_key_of_every_settings_file_has_a_sentence() -> None:
    for name in ("default.yaml", "quick.yaml"):
        lines = (resources.files("configs") / name).read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            is_value = ":" in line and not line.lstrip().startswith("#")
            if is_value and line.partition(":")[2].strip():
                assert lines[number - 1].lstrip().startswith("# "), f"{name}: {line}"


def test_defaults_hold_exactly_the_known_keys() -> None:
    def leaves(values: dict[str, object], prefix: str = "") -> list[str]:
        return [
            key
            for name, value in values.items()
            for key in (
                leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
            )
        ]

    values = yaml.safe_load((resources.files("configs") / "default.yaml").read_text("utf-8"))
    assert sorted(leaves(values)) == sorted(known_keys())


def test_file_is_laid_over_the_defaults_and_overrides_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {d_model: 32, n_layers: 3}\n")
    settings = load_settings(file, ["model.n_layers=1", "baselines.systems=[lightgbm, tabnet]"])
    assert (settings.model.d_model, settings.model.n_layers) == (32, 1)
    assert settings.baselines.systems == ["lightgbm", "tabnet"]
    assert settings.model.n_heads == load_settings().model.n_heads


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.d_modle=3", "no setting 'model.d_modle'; did you mean 'model.d_model'"),
        ("model=3", "'model' is a section"),
        ("model.d_model", "takes key.path=value"),
        ("model.d_model=wide", "setting 'model.d_model'.*got 'wide'"),
        ("model.dropout=1.5", "setting 'model.dropout'.*less than 1"),
        ("training.precision=float16", "setting 'training.precision'"),
        ("seed=[", "not a YAML value"),
    ],
)
def test_wrong_override_is_named(override: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_settings(None, [override])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"- 1\n", "keys and values"), (b"a: [", "not a YAML file"), (b"\xff\xfe\x00", "not a YAML")],
)
def test_wrong_file_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=sentence):
        load_settings(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read settings file"):
        load_settings(tmp_path / "none.yaml")
