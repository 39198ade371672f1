"""Settings: pydantic models of `configs/default.yaml` and, for matching, `configs/match.yaml`.

These files alone hold the values. A user's `--config FILE` is laid over them, then each
`--set key.path=value`.
"""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from purchase_predictor.baseline_settings import BaselineSettings, Section
from purchase_predictor.errors import SettingsError, nearest

if TYPE_CHECKING:
    from features.storage import ArrayStore


class CatalogueSettings(Section):
    """How a catalogue is read, and which of its products belong to the training period."""

    validation_fraction: float = Field(gt=0, lt=1)
    test_fraction: float = Field(gt=0, lt=1)
    max_title_chars: int = Field(ge=16)
    max_image_pixels: int = Field(ge=1024)
    max_image_bytes: int = Field(ge=1024)


class DataSettings(CatalogueSettings):
    """What is read and how the rows are split."""

    min_conversions: int = Field(ge=1)
    min_identity_count: int = Field(ge=1)
    market_profiles: str

    @property
    def profiles_file(self) -> Path | None:
        """The user's file of market profiles; None where there is none."""
        return Path(self.market_profiles) if self.market_profiles else None


class EncoderSettings(Section):
    """Where pictures and titles become vectors."""

    image_encoder: str
    image_size: int = Field(ge=16)
    text_encoder: str
    text_prefix: str
    picture_phrases: bool
    max_words: int = Field(ge=2)
    n_word_pieces: int = Field(ge=256)
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=8)
    learning_rate: float = Field(gt=0)
    cache: str


class ModelSettings(Section):
    """Shape of the fusion transformer."""

    d_model: int = Field(ge=8, multiple_of=4)
    n_heads: int = Field(ge=1)
    n_layers: int = Field(ge=1)
    n_session_layers: int = Field(ge=1)
    n_members: int = Field(ge=1)
    n_bins: int = Field(ge=2)
    d_number: int = Field(ge=1)
    history: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    modality_dropout: float = Field(ge=0, lt=1)
    identity_dropout: float = Field(ge=0, lt=1)
    view_dropout: float = Field(ge=0, lt=1)
    parts: str = Field(pattern="^(both|readout|network)$")
    market: str = Field(pattern="^(layers|input|none)$")


class PretrainingSettings(Section):
    """Next-click pre-training."""

    epochs: int = Field(ge=0)
    n_negatives: int = Field(ge=1)
    batch_events: int = Field(ge=64)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    cross_fit: str = Field(pattern="^(time|units)$")
    n_folds: int = Field(ge=2)
    event_type_weight: float = Field(ge=0)
    auxiliary_weight: float = Field(ge=0)
    taste_rank: int = Field(ge=0)
    taste_classes: int = Field(ge=1)
    taste_epochs: int = Field(ge=1)
    taste_models: int = Field(ge=1)


class TrainingSettings(Section):
    """The loop that learns conversion."""

    max_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    batch_size: int = Field(ge=8)
    learning_rate: float = Field(gt=0)
    pretrained_share: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    warm_up: float = Field(ge=0, lt=1)
    clip_norm: float = Field(gt=0)
    ema_decay: float = Field(ge=0, lt=1)
    checkpoint_every: int = Field(ge=1)
    precision: str = Field(pattern="^(auto|float32|bfloat16)$")
    refit: bool
    storage: str = Field(pattern="^(memory|disk)$")
    storage_folder: str = Field(min_length=1)

    @property
    def array_store(self) -> "ArrayStore":
        """Where tables and arrays of a training lie."""
        from features.storage import ArrayStore  # not for every command: it brings polars

        return ArrayStore(Path(self.storage_folder) if self.storage == "disk" else None)


STORAGE: dict[str, Any] = {"training": {"storage", "storage_folder"}}
"""Where arrays lie, as `model_dump` excludes it: nothing that comes out depends on it."""


class EvaluationSettings(Section):
    """Intervals and thresholds of the evaluation."""

    resamples: int = Field(ge=10)
    confidence: float = Field(gt=0.5, lt=1)
    min_test_conversions: int = Field(ge=1)
    ece_bins: int = Field(ge=2)


class StoreSettings(Section):
    """Where MLflow keeps runs."""

    uri: str
    experiment: str


class TrackingSettings(StoreSettings):
    """MLflow: runs and the registry."""

    register_model: bool


class ComparisonSettings(Section):
    """Local against global."""

    margin: float = Field(gt=0)
    min_conversions: int = Field(ge=1)
    curve_conversions: list[int] = Field(min_length=1)
    curve_repeats: int = Field(ge=2)
    random_profiles: int = Field(ge=1)


class Settings(Section):
    """All settings of the package."""

    seed: int = Field(ge=0, lt=2**32)
    data: DataSettings
    encoders: EncoderSettings
    model: ModelSettings
    pretraining: PretrainingSettings
    training: TrainingSettings
    baselines: BaselineSettings
    evaluation: EvaluationSettings
    tracking: TrackingSettings
    comparison: ComparisonSettings

    def model_values(self) -> dict[str, Any]:
        """What a trained model can depend on: not how it is judged, told of and stored."""
        apart = {"evaluation": True, "tracking": True, "comparison": True, **STORAGE}
        return self.model_dump(exclude=apart)


class ViewSettings(Section):
    """Encoders of one view of a listing, and how each is trained by match groups (ArcFace)."""

    encoders: list[str]
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    head_factor: float = Field(gt=0)
    warm_up: float = Field(ge=0, lt=1)
    clip_norm: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    margin_start: float = Field(ge=0, lt=3.14)
    margin_end: float = Field(ge=0, lt=3.14)
    scale: float = Field(gt=0)
    size_exponent: float = Field(ge=0)
    precision: str = Field(pattern="^(float32|bfloat16)$")


class ImageViewSettings(ViewSettings):
    """Encoders of pictures."""

    size: int = Field(ge=0)
    cutmix: float = Field(ge=0, le=1)


class TextViewSettings(ViewSettings):
    """Encoders of titles, and the word pieces that the fusion reads beside them."""

    prefix: str
    lowercase: bool
    freeze_words: bool
    max_tokens: int = Field(ge=4)
    max_words: int = Field(ge=2)
    n_word_pieces: int = Field(ge=256)


class LadderSettings(Section):
    """Strategies of matching, the galleries they are judged on, and their search."""

    neighbours: int = Field(ge=2)
    largest_group: int = Field(ge=2)
    galleries: list[int]
    smallest_gallery: int = Field(ge=2)
    tfidf: bool
    veto: bool
    all_data: bool
    untrained: bool
    union_trials: int = Field(ge=1)
    blending_trials: int = Field(ge=1)
    resamples: int = Field(ge=10)
    confidence: float = Field(gt=0.5, lt=1)


class MatchSettings(Section):
    """All settings of `match`."""

    seed: int = Field(ge=0, lt=2**32)
    cache: str
    data: CatalogueSettings
    image: ImageViewSettings
    text: TextViewSettings
    ladder: LadderSettings
    tracking: StoreSettings


AnySettings = TypeVar("AnySettings", Settings, MatchSettings)


def known_keys(section: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Every dotted key path that settings have."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{path}.")
        else:
            keys.append(path)
    return keys


def value_of(settings: Settings, key: str) -> Any:
    """The value at a dotted key path of `known_keys`."""
    found: Any = settings
    for name in key.split("."):
        found = getattr(found, name)
    return found


def load_settings(config: Path | None = None, overrides: list[str] | None = None) -> Settings:
    """Lay a user's file and `key.path=value` overrides over the defaults.

    Args:
        config: a YAML file with any part of the settings.
        overrides: `key.path=value`, the value read as YAML.

    Raises:
        SettingsError: unreadable file, unknown key (names the nearest) or impossible value.
    """
    return _load(Settings, "default.yaml", config, overrides or [])


def load_match_settings(
    config: Path | None = None, overrides: list[str] | None = None
) -> MatchSettings:
    """Settings of `match`: the same over `configs/match.yaml`.

    Args:
        config: as for `load_settings`.
        overrides: as for `load_settings`.

    Raises:
        SettingsError: as `load_settings`.
    """
    return _load(MatchSettings, "match.yaml", config, overrides or [])


def _load(
    model: type[AnySettings], defaults: str, config: Path | None, overrides: list[str]
) -> AnySettings:
    values = yaml.safe_load((resources.files("configs") / defaults).read_text("utf-8"))
    known = known_keys(model)
    if config is not None:
        _merge(values, _read_yaml(config), str(config), known)
    for override in overrides:
        key, found, text = override.partition("=")
        if not found:
            raise SettingsError(f"--set takes key.path=value, got '{override}'")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {key}: '{text}' is not a YAML value") from error
        nested: dict[str, Any] = {}
        inner = nested
        *parents, last = key.strip().split(".")
        for parent in parents:
            inner[parent] = {}
            inner = inner[parent]
        inner[last] = value
        _merge(values, nested, "--set", known)
    return _validated(model, values)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read settings file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not a YAML file in UTF-8") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise SettingsError(f"{path} must hold keys and values, it holds a {kind}")
    return values


def _leaf(path: str, value: Any) -> str:
    """The path of the first setting under a key."""
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path = f"{path}.{key}"
    return path


def _merge(
    values: dict[str, Any],
    changes: dict[str, Any],
    origin: str,
    known: list[str],
    prefix: str = "",
) -> None:
    for key, value in changes.items():
        path = f"{prefix}{key}"
        if key not in values:
            whole = _leaf(path, value)  # the section alone says too little to guess from
            raise SettingsError(f"{origin}: there is no setting '{whole}'{nearest(whole, known)}")
        if isinstance(values[key], dict):
            if not isinstance(value, dict):
                raise SettingsError(f"{origin}: '{path}' is a section of keys, not {value!r}")
            _merge(values[key], value, origin, known, f"{path}.")
        else:
            values[key] = value


def _validated(model: type[AnySettings], values: dict[str, Any]) -> AnySettings:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"setting '{path}': {first['msg']}, got {first['input']!r}") from error
