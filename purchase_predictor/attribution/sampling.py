"""Which impressions are explained one by one."""

import numpy as np
from numpy.typing import NDArray

from features.arrays import EncodedMarket


def sample_lists(
    data: EncodedMarket, eligible: NDArray[np.bool_], n: int, *, seed: int
) -> NDArray[np.bool_]:
    """Draw whole lists at random, from every market about as many impressions.

    Whole, since offers shown together are read beside one another.

    Args:
        data: encoded rows.
        eligible: bool [len(data)], rows that may be drawn; a list with one that may not is left.
        n: impressions wanted, about; a market with fewer gives all it has.
        seed: of the drawing.

    Returns:
        bool [len(data)].
    """
    generator = np.random.default_rng(seed)
    lists, first, size = np.unique(data.list_number, return_index=True, return_counts=True)
    whole = np.add.reduceat(eligible, first, dtype=np.int64) == size if len(lists) else size > 0
    market = data.market_label[first].astype(str)
    names = np.unique(market[whole])
    taken = []
    for name in names:
        places = generator.permutation(np.flatnonzero(whole & (market == name)))
        before = np.cumsum(size[places]) - size[places]
        taken.append(lists[places[before < n / len(names)]])
    chosen = np.concatenate(taken) if taken else lists[:0]
    return np.isin(data.list_number, chosen)
