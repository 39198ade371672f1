"""What is known about the making of a model."""

from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["local", "global", "adapted"]


@dataclass(frozen=True)
class Facts:
    """What a model folder says about how it was made.

    Attributes:
        market: a market or `all`.
        scope: local, global or adapted.
        fingerprint: of the whole data.
        cuts: ISO times of the cuts, where the split is by time.
        n_straddling: sessions left out because they lie on both sides of a cut.
        champion: the system with the lowest cross-fitted log-loss.
        validation_log_loss: of each system, cross-fitted on the second validation half.
        identity_coverage: share of training and of validation rows whose product has an identity.
        identities: whether product identities are used.
        picture_phrases: groups of phrases that pictures tell.
        next_click_auc: of the next-click score alone, on training and on validation rows.
        leaks: context columns that alone tell conversion, with their AUC.
        encoders_saw_other_markets: whether pictures and titles of other markets trained encoders.
        n_train: training rows.
        n_train_conversions: conversions among them.
        unseen_markets: markets with test rows that training never saw, see
            `purchase_predictor.scored.unseen_in`.
        learned_until: when the last row that was learned from was shown, seconds since 1970;
            models of before do not say.
    """

    market: str
    scope: Scope
    fingerprint: str
    cuts: dict[str, str] | None
    n_straddling: int
    champion: str
    validation_log_loss: dict[str, float]
    identity_coverage: dict[str, float]
    identities: bool
    picture_phrases: tuple[str, ...]
    next_click_auc: dict[str, float | None]
    leaks: dict[str, float]
    encoders_saw_other_markets: bool
    n_train: int
    n_train_conversions: int
    unseen_markets: dict[str, dict[str, Any]]
    learned_until: float | None = None
