"""The arms of the comparison: ways to serve a market, from one model for all to its own."""

from dataclasses import dataclass

from purchase_predictor.predictor import Scope
from purchase_predictor.settings import Settings

ALL = "all"


@dataclass(frozen=True)
class Arm:
    """One way to serve a market.

    Attributes:
        name: as `gap.json` has it.
        scope: as the train command has it.
        market: setting `model.market`.
    """

    name: str
    scope: Scope
    market: str

    def settings(self, settings: Settings) -> Settings:
        """The settings of this arm's models."""
        least = min(settings.data.min_conversions, settings.comparison.min_conversions)
        data = settings.data.model_copy(update={"min_conversions": least})
        model = settings.model.model_copy(update={"market": self.market})
        return settings.model_copy(update={"model": model, "data": data})

    def trained_on(self, market: str) -> str:
        """Whose model serves a market: `all`, or the market's own name."""
        return ALL if self.scope == "global" else market


WITHOUT_COUNTRY = Arm("global-without-country", "global", "none")
GLOBAL = Arm("global", "global", "input")
WITH_ADAPTERS = Arm("global-with-adapters", "global", "layers")
ADAPTED = Arm("adapted", "adapted", "layers")
LOCAL = Arm("local", "local", "layers")
ARMS = (GLOBAL, WITH_ADAPTERS, ADAPTED, LOCAL, WITHOUT_COUNTRY)
"""Those that are trained; partial pooling is made of two of them."""

POOLED = "pooled"

PRIMARY = (GLOBAL.name, LOCAL.name)
"""Arm and against of the one contrast that is tested; all others are exploratory."""

EXPLORATORY = (
    (WITH_ADAPTERS.name, LOCAL.name),
    (ADAPTED.name, LOCAL.name),
    (POOLED, LOCAL.name),
    (GLOBAL.name, WITHOUT_COUNTRY.name),
    (WITH_ADAPTERS.name, GLOBAL.name),
    (ADAPTED.name, WITH_ADAPTERS.name),
    (POOLED, GLOBAL.name),
)
