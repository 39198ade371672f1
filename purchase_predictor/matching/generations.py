"""Encoders of the ladder: untrained, of the training groups, of validation groups too."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.encoders.arcface import ArcFaceRecipe
from purchase_predictor.encoders.content import ContentEncoders, fit_encoders
from purchase_predictor.encoders.fitting import ImageChoice, TextChoice
from purchase_predictor.matching.bench import Views
from purchase_predictor.matching.ladder import ALL, BASE, UNTRAINED
from purchase_predictor.matching.listings import IMAGE, Listings, make_views, words_view
from purchase_predictor.settings import MatchSettings, ViewSettings

_RECIPE = (
    "epochs", "batch_size", "learning_rate", "margin_start", "margin_end", "scale",
    "size_exponent", "head_factor", "warm_up", "clip_norm", "weight_decay", "precision",
)  # fmt: skip
"""Names that a view's settings and a recipe share."""


@dataclass(frozen=True)
class Generations:
    """Encoders of each generation, and what they make of the listings.

    Attributes:
        encoders: by generation.
        views: by generation.
    """

    encoders: dict[str, ContentEncoders]
    views: dict[str, Views]

    @property
    def last(self) -> str:
        """The generation that learned most: its encoders are kept and match the catalogue."""
        return ALL if ALL in self.encoders else BASE


def fit_generations(
    listings: Listings, settings: MatchSettings, *, progress: Callable[[str], None]
) -> Generations:
    """Train the encoders of every generation, each view and each encoder on its own.

    Args:
        listings: of the catalogue.
        settings: encoders and recipes.
        progress: takes a line at each step.

    Raises:
        UserError: if an encoder cannot be loaded, trained or kept.
    """
    part, n = listings.split.part, len(listings)
    training_part = listings.split.training
    everything, held_out = np.ones(n, dtype=bool), part != "train"
    with_validation = training_part | ((part == "validation") & listings.eligible)
    plan: dict[str, tuple[bool, NDArray[np.bool_], NDArray[np.bool_]]] = {}
    if settings.ladder.untrained:
        plan[UNTRAINED] = (False, training_part, held_out)
    # Only the last generation has to embed what it learned from: it matches the whole catalogue.
    all_data = settings.ladder.all_data
    plan[BASE] = (True, training_part, held_out if all_data else everything)
    if all_data:
        plan[ALL] = (True, with_validation, everything)
    words = words_view(listings)
    encoders: dict[str, ContentEncoders] = {}
    views: dict[str, Views] = {}
    for name, (trained, training, rows) in plan.items():
        progress(f"encoders, {name}: {int(training.sum()):,} listings to learn from")
        encoders[name] = _fit(listings, settings, training, trained=trained, progress=progress)
        progress(f"encoders, {name}: embedding {int(rows.sum()):,} listings")
        # No threshold was tuned for a view that only the last encoders have.
        sides = views[BASE].sides if name == ALL else ("image", "title")
        views[name] = make_views(
            listings, encoders[name], rows, tfidf=words, progress=progress, sides=sides
        )
    return Generations(encoders, views)


def _fit(
    listings: Listings,
    settings: MatchSettings,
    training: NDArray[np.bool_],
    *,
    trained: bool,
    progress: Callable[[str], None],
) -> ContentEncoders:
    text, image = settings.text, settings.image
    titles = [
        TextChoice(
            setting,
            text.prefix,
            max_tokens=text.max_tokens,
            recipe=_recipe(text) if trained else None,
            lowercase=text.lowercase,
            freeze_words=text.freeze_words,
        )
        for setting in text.encoders
    ]
    # Where hashes stand for pictures there is next to no picture to learn from.
    seen = image.encoders if listings.shown_by == IMAGE else []
    pictures = [
        ImageChoice(setting, image.size, recipe=_recipe(image, image.cutmix) if trained else None)
        for setting in seen
    ]
    return fit_encoders(
        listings.products,
        listings.folder,
        texts=titles,
        images=pictures,
        limits=settings.data,
        training=training,
        max_words=text.max_words,
        n_word_pieces=text.n_word_pieces,
        seed=settings.seed,
        cache=Path(settings.cache) if settings.cache else None,
        progress=progress,
    )


def _recipe(view: ViewSettings, cutmix: float = 0.0) -> ArcFaceRecipe:
    return ArcFaceRecipe(**{name: getattr(view, name) for name in _RECIPE}, cutmix=cutmix)
