"""What a registered model needs to score."""

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
