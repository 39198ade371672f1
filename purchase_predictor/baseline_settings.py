"""Settings of the baselines, and what all settings have in common."""

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the settings: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LightGBMSettings(Section):
    """LightGBM, the baseline to beat."""

    learning_rate: float = Field(gt=0)
    num_leaves: int = Field(ge=2)
    min_child_samples: int = Field(ge=1)
    colsample_bytree: float = Field(gt=0, le=1)
    subsample: float = Field(gt=0, le=1)
    reg_lambda: float = Field(ge=0)
    cat_smooth: float = Field(ge=0)
    max_cat_to_onehot: int = Field(ge=1)
    extra_trees: bool
    max_rounds: int = Field(ge=1)
    patience: int = Field(ge=1)
    n_components: int = Field(ge=1)
    threads: int = Field(ge=1)


class TabNetSettings(Section):
    """TabNet (pytorch-tabnet)."""

    n_d: int = Field(ge=2)
    n_steps: int = Field(ge=1)
    gamma: float = Field(ge=1)
    lambda_sparse: float = Field(ge=0)
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(ge=16)
    virtual_batch_size: int = Field(ge=8)
    max_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)


class CatBoostSettings(Section):
    """CatBoost (an optional library)."""

    learning_rate: float = Field(gt=0)
    depth: int = Field(ge=1, le=16)
    l2_leaf_reg: float = Field(ge=0)
    random_strength: float = Field(ge=0)
    bagging_temperature: float = Field(ge=0)
    max_rounds: int = Field(ge=1)
    patience: int = Field(ge=1)
    n_components: int = Field(ge=1)
    threads: int = Field(ge=1)


class TabMSettings(Section):
    """TabM (package tabm)."""

    k: int = Field(ge=1)
    n_blocks: int = Field(ge=1)
    d_block: int = Field(ge=1)
    d_embedding: int = Field(ge=1)
    n_bins: int = Field(ge=2)
    dropout: float = Field(ge=0, lt=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(ge=8)
    max_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)


class LogisticSettings(Section):
    """Logistic regression."""

    inverse_penalty: float = Field(gt=0)
    n_penalties: int = Field(ge=1)
    largest_category: int = Field(ge=0)


class BaselineSettings(Section):
    """What the transformer is held against."""

    systems: list[str]
    lightgbm: LightGBMSettings
    catboost: CatBoostSettings
    tabnet: TabNetSettings
    tabm: TabMSettings
    logistic: LogisticSettings
