"""What travels with a registered model: the libraries it needs, and source code alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

REQUIREMENTS = (
    "accelerate", "dataframely", "lightgbm", "mlflow", "numpy", "pandas", "pillow", "polars",
    "pydantic", "pytorch-tabnet", "pyyaml", "rtdl-num-embeddings", "safetensors", "scikit-learn",
    "scipy", "tabm", "timm", "tokenizers", "torch", "torchvision", "transformers",
)  # fmt: skip
"""What scoring imports; pinned to the versions that trained the model."""


def pinned() -> list[str]:
    """Requirements at the versions installed; `+cpu` and the like are not on the index."""
    versions = {name: metadata.version(name).partition("+")[0] for name in REQUIREMENTS}
    return [f"{name}=={version}" for name, version in versions.items()]


@contextmanager
def without_bytecode() -> Iterator[None]:
    """Write no compiled code beside what is imported inside.

    MLflow imports the code of a model from the folder that it then logs, and would log that, too.
    """
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
