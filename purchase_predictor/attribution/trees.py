"""TreeSHAP of LightGBM in the tokens of the fusion, so that both stories can be compared.

Values of a column are exact for the trees (Lundberg et al., Nature Machine Intelligence 2, 2020);
columns of one token (components of a picture's embedding, say) are added up.
"""

import numpy as np
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from purchase_predictor.attribution.shapley import IDENTITY
from purchase_predictor.attribution.tokens import (
    MODALITY_OF_GROUP,
    PICTURE,
    TITLE,
    Token,
    column_token,
    phrase_token,
)
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.baselines.table import MARKET

Floats = NDArray[np.float64]

_NAMED = {
    MARKET: Token("market", "culture"),
    "product identity": Token("product_id", IDENTITY),
    "product category": Token("product category", IDENTITY),
    "product brand": Token("product brand", IDENTITY),
    "has text": Token(TITLE, "text"),
    "has image": Token(PICTURE, "image"),
}
_OF_KIND = {
    "profile": _NAMED[MARKET], "text": _NAMED["has text"], "image": _NAMED["has image"],
    "picture": _NAMED["has image"],
}  # fmt: skip


class TreeTokens:
    """Adds up TreeSHAP values by token.

    Args:
        trees: fitted.
        data: encoded rows, for the groups of their columns.
    """

    def __init__(self, trees: LightGBMSystem, data: EncodedMarket) -> None:
        self.trees = trees
        columns = (*data.number_columns, *data.category_columns)
        known = {c.name: Token(column_token(c.name), MODALITY_OF_GROUP[c.group]) for c in columns}
        tokens = [known.get(name) or _token(name) for name in trees.table_.names]
        self.tokens = list(dict.fromkeys(tokens))
        self.place = np.array([self.tokens.index(token) for token in tokens])

    def __call__(self, data: EncodedMarket, rows: NDArray[np.int64]) -> Floats:
        """Contributions to the trees' log-odds, float64 [len(rows), len(self.tokens)]."""
        values = self.trees.contributions(data, rows)[:, :-1]
        of_tokens = np.zeros((len(self.tokens), len(rows)))
        np.add.at(of_tokens, self.place, values.T)
        return of_tokens.T


def _token(name: str) -> Token:
    """The token of a column that is not of the impression alone (`TableEncoder`)."""
    if name in _NAMED:
        return _NAMED[name]
    kind, _, rest = name.partition(" ")
    return Token(phrase_token(rest), "text") if kind == "phrase" else _OF_KIND[kind]
