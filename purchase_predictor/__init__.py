"""Predicts whether a shopper will buy, in every country they shop from, and says why.

`PurchasePredictor` is loaded at its first use, so that `import purchase_predictor` stays light.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from purchase_predictor.predictor import PurchasePredictor

__version__ = "0.1.0"
__all__ = ["PurchasePredictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `PurchasePredictor` when it is asked for."""
    if name == "PurchasePredictor":
        from purchase_predictor.predictor import PurchasePredictor

        return PurchasePredictor
    raise AttributeError(f"module 'purchase_predictor' has no attribute '{name}'")
