from importlib import resources
from pathlib import Path

import pytest
import yaml

from purchase_predictor.errors import SettingsError
from purchase_predictor.settings import (
    MatchSettings,
    Settings,
    known_keys,
    load_match_settings,
    load_settings,
)

CONFIGS = Path(str(resources.files("configs")))
SHOPEE = ["match-shopee.yaml", "match-shopee-cpu.yaml"]


def test_every_key_of_every_settings_file_has_a_sentence() -> None:
    for name in ("default.yaml", "quick.yaml", "match.yaml", *SHOPEE):
        lines = (resources.files("configs") / name).read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            is_value = ":" in line and not line.lstrip().startswith("#")
            if is_value and line.partition(":")[2].strip():
                assert lines[number - 1].lstrip().startswith("# "), f"{name}: {line}"


@pytest.mark.parametrize(
    ("name", "section"), [("default.yaml", Settings), ("match.yaml", MatchSettings)]
)
def test_defaults_hold_exactly_the_known_keys(name: str, section: type) -> None:
    def leaves(values: dict[str, object], prefix: str = "") -> list[str]:
        return [
            key
            for name, value in values.items()
            for key in (
                leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
            )
        ]

    values = yaml.safe_load((CONFIGS / name).read_text("utf-8"))
    assert sorted(leaves(values)) == sorted(known_keys(section))


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


# settings of `match`


def test_the_reference_recipe_is_laid_over_the_settings_of_match() -> None:
    settings = load_match_settings(CONFIGS / "match-shopee.yaml")

    assert settings.image.encoders == ["eca_nfnet_l1"] * 2
    assert len(settings.text.encoders) == 5
    assert (settings.image.margin_start, settings.image.margin_end) == (0.2, 1.0)
    assert (settings.text.margin_start, settings.text.margin_end) == (0.2, 0.8)
    assert (settings.image.size_exponent, settings.text.size_exponent) == (0.1, 0.2)
    assert (settings.image.scale, settings.text.scale) == (30.0, 30.0)
    assert (settings.image.cutmix, settings.text.prefix) == (0.1, "")
    assert settings.ladder == load_match_settings().ladder


def test_the_recipe_for_processors_changes_the_text_encoder_and_the_veto_alone() -> None:
    plain = load_match_settings()

    settings = load_match_settings(CONFIGS / "match-shopee-cpu.yaml")

    assert settings.image == plain.image
    assert settings.text.epochs < plain.text.epochs
    assert (settings.text.prefix, settings.text.encoders) == ("query: ", ["small"])
    assert settings.ladder == plain.ladder.model_copy(update={"veto": True})


@pytest.mark.parametrize("name", ["quick.yaml", "default.yaml"])
def test_settings_of_another_command_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: there is no setting"):
        load_match_settings(CONFIGS / name)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("image.cutmx=0.1", "no setting 'image.cutmx'; did you mean 'image.cutmix'"),
        ("text.cutmix=0.1", "no setting 'text.cutmix'"),
        ("ladder.galeries=[0]", "did you mean 'ladder.galleries'"),
        ("model.d_model=3", "no setting 'model.d_model'"),
        ("laddr.galleries=[0]", "no setting 'laddr.galleries'; did you mean 'ladder.galleries'"),
        ("ladder=[]", "'ladder' is a section"),
        ("ladder.neighbours=1", "setting 'ladder.neighbours'.*got 1"),
        ("ladder.galleries=[many]", "setting 'ladder.galleries.0'.*got 'many'"),
        ("ladder.confidence=1.0", "setting 'ladder.confidence'"),
        ("text.encoders=small", "setting 'text.encoders'.*got 'small'"),
        ("text.precision=float16", "setting 'text.precision'"),
        ("image.margin_end=3.2", "setting 'image.margin_end'"),
        ("image.batch_size=1", "setting 'image.batch_size'"),
    ],
)
def test_wrong_override_of_match_is_named(override: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_match_settings(None, [override])
