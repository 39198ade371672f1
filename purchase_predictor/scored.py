"""The table of scores that every way of scoring gives, and what it says of unseen markets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from purchase_predictor.counted import Counted
from purchase_predictor.errors import market_key
from purchase_predictor.facts import Facts
from purchase_predictor.training.preparation import Preparation

MAX_TOLD = 5
"""Pictures and reasons for rows set aside that are told one by one, markets that are named."""

TRAINING_PERIOD = "training_period"
"""Flag of rows of the time that the model learned from: it may have learned their outcomes."""


def in_training_period(encoded: EncodedMarket, learned_until: float | None) -> NDArray[np.bool_]:
    """Which rows are of the time that the model learned from, bool [n].

    Args:
        encoded: n rows.
        learned_until: the last moment the model learned from, seconds since 1970; None: unknown.
    """
    if learned_until is None:
        return np.zeros(len(encoded), dtype=bool)
    return encoded.time <= learned_until


def scored_frame(
    encoded: EncodedMarket,
    probability: NDArray[np.float64],
    learned_until: float | None = None,
) -> pl.DataFrame:
    """Scores in the order of the input.

    Args:
        encoded: n rows.
        probability: float64 [n], calibrated.
        learned_until: the last moment the model learned from, seconds since 1970; None: unknown.

    Returns:
        `impression_id, market, probability, row, flags`, sorted by `row`.
    """
    flags = pl.DataFrame(dict(encoded.flags))
    if learned_until is not None:
        learned = in_training_period(encoded, learned_until)
        flags = flags.with_columns(pl.Series(TRAINING_PERIOD, learned))
    raised = [pl.when(flag).then(pl.lit(flag)) for flag in flags.columns]
    return (
        pl.DataFrame(
            {
                "impression_id": encoded.impression_id.astype(str),
                "market": encoded.market_label.astype(str),
                "probability": probability,
                "row": encoded.row,
            }
        )
        .with_columns(flags.select(flags=pl.concat_list(raised).list.drop_nulls()))
        .sort("row")
    )


def unread_sentences(failures: Sequence[tuple[str, str, str]]) -> list[str]:
    """What a user should know of pictures that are named and cannot be read.

    Args:
        failures: product, path and reason of each.
    """
    told = [
        f"picture {path} of product {product} is not read: {reason}"
        for product, path, reason in failures[:MAX_TOLD]
    ]
    if len(failures) > MAX_TOLD:
        told.append(f"{len(failures):,} pictures in all are not read and count as missing")
    return told


def rows_by_reason(quarantine: pl.LazyFrame) -> list[dict[str, Any]]:
    """How many rows are set aside for what.

    Args:
        quarantine: `table, reason`, all reasons of a row in one.

    Returns:
        `table, reason, rows`, the commonest reason first.
    """
    counted = quarantine.group_by("table", "reason").agg(pl.len().alias("rows"))
    ordered = counted.sort("rows", "table", "reason", descending=[True, False, False])
    return ordered.collect(engine="streaming").to_dicts()


def set_aside_sentences(counted: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a user should know of rows set aside.

    Args:
        counted: as `rows_by_reason` gives them.
    """
    told = [
        f"{row['table']}: {Counted(row['rows']):row|rows} set aside: {row['reason']}"
        for row in counted[:MAX_TOLD]
    ]
    if len(counted) > MAX_TOLD:
        left = sum(row["rows"] for row in counted[MAX_TOLD:])
        more = Counted(len(counted) - MAX_TOLD)
        told.append(f"{Counted(left):row|rows} set aside for {more:more reason|more reasons}")
    return told


def unseen_markets(scores: pl.LazyFrame) -> dict[str, dict[str, Any]]:
    """Markets that training never saw.

    Args:
        scores: `market, flags`.

    Returns:
        For each of them `rows`, and `profile`: whether it is told apart by a profile.
    """
    raised = pl.col("flags").list.contains
    found = (
        scores.filter(raised("unseen_market"))
        .group_by("market")
        .agg(pl.len().alias("rows"), profile=~raised("unknown_profile").any())
        .sort("market")
        .collect(engine="streaming")
    )
    return {row.pop("market"): row for row in found.to_dicts()}


def unseen_in(encoded: EncodedMarket) -> dict[str, dict[str, Any]]:
    """The same as `unseen_markets`, of encoded rows."""
    return unseen_markets(scored_frame(encoded, np.zeros(len(encoded))).lazy())


def scored_sentences(scores: pl.DataFrame, preparation: Preparation, facts: Facts) -> list[str]:
    """What a user should know of scores: pictures not read, markets never seen.

    Args:
        scores: `market, flags`.
        preparation: that encoded the rows.
        facts: of the model.
    """
    unseen = unseen_sentences(unseen_markets(scores.lazy()), facts, preparation.markets)
    return unread_sentences(preparation.failures_) + unseen


def unseen_sentences(
    markets: Mapping[str, Mapping[str, Any]], facts: Facts, known: Iterable[str]
) -> list[str]:
    """What a user should know of markets that training never saw.

    Args:
        markets: of `unseen_markets`.
        facts: of the model.
        known: the markets that training saw.
    """
    local = facts.scope == "local"
    whose = f"what {facts.market} does" if local else "what all markets share"
    # a new market is no slip: a hint is for another spelling of a known one only
    spelled = {market_key(name): name for name in known}
    alike: dict[tuple[bool, str | None], list[str]] = {}
    for name, found in markets.items():
        alike.setdefault((found["profile"], spelled.get(market_key(name))), []).append(name)
    told = []
    for (profile, meant), names in alike.items():
        n = Counted(sum(markets[name]["rows"] for name in names))
        several = len(names) > 1
        shown = ", ".join(names[:MAX_TOLD] if meant is None else map(ascii, names[:MAX_TOLD]))
        hint = "" if meant is None else f"; did you mean '{meant}'?"
        more = f" and {len(names) - MAX_TOLD} more" if len(names) > MAX_TOLD else ""
        who = f"markets {shown}{more} were" if several else f"market {shown} was"
        by_profile = f" and by {'their profiles' if several else 'its profile'}"
        of_them = "these markets" if several else "this market"
        without = f" alone: no whole profile of {of_them} is known (setting data.market_profiles)"
        ending = by_profile if profile else without
        told.append(
            f"{who} not in training: {n:row is|rows are} predicted by {whose}{ending}{hint}"
        )
    return told
