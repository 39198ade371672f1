"""What it is worth to rank lists by one model instead of another, from offers left to chance.

A policy shows of every list the offer that its model ranks first. Its value is the conversion
rate of what it shows.

**What `propensity` is taken to be.** The probability, known from the design of the experiment and
not estimated, with which chance put this very offer (the listing and its terms) in its place;
null where the place was not left to chance. Rows of a list (same `list_id`, else same session and
timestamp) that have one are its *candidates*: the other rows were placed by somebody who may have
known more, so they neither compete nor count. Lists with fewer than two candidates do not tell
policies apart and are left out. Two ways of logging are told apart by the data:

- **drawn**: every candidate has an outcome. So logs the sample marketplace: chance fills a tenth
  of the places, each with one of 24 offers (2 variant listings × 6 discounts × 2 shippings),
  `propensity` is 1/24, and whatever is drawn is shown. Offers not drawn are not in the table, no
  model was asked about them, and a policy chooses among those drawn. Given these, the outcome of
  its choice is seen for certain: the probability to divide by is 1, not 1/24, which would value
  offers that no model has ranked. The value is that of lists filled by the same chance, and the
  three estimates agree.
- **chosen**: some candidates have no outcome (`converted` is null), and a list's propensities sum
  to 1: chance showed one candidate of each list, with its propensity. The outcome of a policy's
  choice is seen with the propensity of that choice.

**Estimates** of a policy that shows candidate i of a list with probability π_i (1 for the first,
shared by ties), where w_i = [outcome seen] / (probability of seeing it), over L lists:

- IPS: Σ π_i w_i y_i / L; unbiased, but one rarely shown offer can carry it;
- self-normalised IPS: Σ π_i w_i y_i / Σ π_i w_i; a little biased, steadier;
- doubly robust: Σ π_i (q_i + w_i (y_i − q_i)) / L, where the reward model q is the probability
  that the *other* model of the pair gave: a model that judges its own favourites is flattered.
  Unbiased whatever q is, since propensities are known; the better q, the narrower.

**Assumptions**: propensities are right; what an offer does depends neither on the offers beside
it nor on its place (an offer shown alone converts as it did in its list); the lists stand for
those to come.

Sources: Horvitz and Thompson 1952; Dudík, Erhan, Langford and Li 2014, Doubly robust policy
evaluation and optimization; Swaminathan and Joachims 2015, The self-normalized estimator for
counterfactual learning; effective sample size: Kish 1965.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from purchase_predictor.following.drift import POOLED
from purchase_predictor.following.joining import Joined
from purchase_predictor.following.realised import Pair, pairs_of
from purchase_predictor.following.resampling import Floats, Ints, Sums, judged, resampled_sums
from purchase_predictor.report.following_words import ENGLISH
from purchase_predictor.settings import EvaluationSettings

DRAWN, CHOSEN = "drawn", "chosen"
"""Ways of logging."""

ESTIMATORS = ("ips", "snips", "dr")

MIN_EFFECTIVE = 30.0
"""Lists, by Kish's measure, below which no value is given."""

MAX_ODD = 0.05
"""Share of lists that may be logged otherwise than the rest, and are then left out."""

TOLERANCE = 1e-3
"""How far the propensities of a list may be from 1 in sum."""


@dataclass(frozen=True)
class Lists:
    """Candidates of lists, for two policies.

    Attributes:
        scores: float64 [2, n], of the arm and of what it is held against.
        y: float64 [n], outcomes; whatever where they are not seen.
        weight: float64 [n], 1 over the probability of seeing the outcome; 0 where it is not seen.
        of: int64 [n], the list of each candidate, 0 .. n_lists - 1; each has candidates.
        unit: int64 [n_lists], whom the list was shown to.
    """

    scores: Floats
    y: Floats
    weight: Floats
    of: Ints
    unit: Ints


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Why there is no value.

    Attributes:
        code: key of `Words.refusals`.
        detail: what the sentence is filled in with.
    """

    def __init__(self, code: str, **detail: Any) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def policy_values(
    joined: Joined, *, bad_propensity: int, settings: EvaluationSettings, seed: int
) -> list[dict[str, Any]]:
    """The value of every pair of models that scored the same lists, pooled and by market.

    Args:
        joined: scores and outcomes.
        bad_propensity: impressions whose propensity is no number in (0, 1].
        settings: resamples of users, level and the conversions below which there is no verdict.
        seed: of the resampling.

    Returns:
        For each pair and scope `scope, market, arm, against, logging` and either what `value_of`
        gives or `refused` (a code), `detail` and `reason` (a sentence); pooled also what was left
        out.
    """
    found = []
    for pair in pairs_of(joined.models):
        if joined.frame.drop_nulls(list(pair)).is_empty():
            continue  # models that never met have no lists in common: `served_apart` tells of them
        names = {"arm": pair[0], "against": pair[1]}
        try:
            candidates, facts = _candidates(joined.frame, pair, bad_propensity)
        except Refusal as refusal:
            found.append({"scope": POOLED, "market": POOLED, **names, **_refused(refusal)})
            continue
        scopes = [(POOLED, candidates)]
        markets = candidates["market"].unique().sort().to_list()
        if len(markets) > 1:
            scopes += [(name, candidates.filter(pl.col("market") == name)) for name in markets]
        for market, rows in scopes:
            scope = POOLED if market == POOLED else "market"
            entry: dict[str, Any] = {"scope": scope, "market": market, **names}
            entry["logging"] = facts["logging"]
            try:
                value = value_of(_lists(rows, pair, facts["logging"]), settings, seed)
            except Refusal as refusal:
                value = _refused(refusal)
            found.append(entry | (facts if scope == POOLED else {}) | value)
    return found


def value_of(lists: Lists, settings: EvaluationSettings, seed: int) -> dict[str, Any]:
    """The values of two policies and their difference, users resampled.

    Args:
        lists: candidates.
        settings: resamples, level and the conversions below which there is no verdict.
        seed: of the resampling.

    Returns:
        `n_lists, n_units, n_candidates`, `n_different` (lists of which the policies show
        different offers), `effective` (lists, by Kish) and `n_positive` (conversions seen) of arm
        and against, `estimates` (estimator → `arm, against, difference`, each with `value, low,
        high`) and of the doubly robust difference `smallest_detectable` and `verdict`.

    Raises:
        Refusal: the effective sample is too small.
    """
    shown = [_first(scores, lists.of, len(lists.unit)) for scores in lists.scores]
    weights = [_by_list(share * lists.weight, lists) for share in shown]
    effective = [_effective(weight) for weight in weights]
    if min(effective) < MIN_EFFECTIVE:
        raise Refusal("effective", n=min(effective), least=MIN_EFFECTIVE, lists=len(lists.unit))
    columns = [np.ones(len(lists.unit))]
    for side, share in enumerate(shown):
        reward = lists.scores[1 - side]
        corrected = reward + lists.weight * (lists.y - reward)
        columns += [
            weights[side],
            _by_list(share * lists.weight * lists.y, lists),
            _by_list(share * corrected, lists),
        ]
    sums = resampled_sums(np.stack(columns), lists.unit, settings=settings, seed=seed)
    values = {
        "ips": [sums.ratio(3 * side + 2, 0) for side in (0, 1)],
        "snips": [sums.ratio(3 * side + 2, 3 * side + 1) for side in (0, 1)],
        "dr": [sums.ratio(3 * side + 3, 0) for side in (0, 1)],
    }
    positive = [int(((share * lists.weight > 0) & (lists.y > 0)).sum()) for share in shown]
    verdict = judged(values["dr"][0].minus(values["dr"][1]), (positive[0], positive[1]), settings)
    apart = _by_list(np.abs(shown[0] - shown[1]), lists) > 0
    return {
        "n_lists": len(lists.unit),
        "n_units": len(np.unique(lists.unit)),
        "n_candidates": len(lists.of),
        "n_different": int(apart.sum()),
        "effective": dict(zip(("arm", "against"), effective, strict=True)),
        "n_positive": dict(zip(("arm", "against"), positive, strict=True)),
        "reward_model": "probability of the other model",
        "estimates": {name: _figures(values[name], positive, settings) for name in ESTIMATORS},
        "smallest_detectable": verdict["smallest_detectable"],
        "verdict": verdict["verdict"],
        "refused": None,
    }


def _candidates(
    frame: pl.DataFrame, pair: Pair, bad_propensity: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Candidates of the lists that are logged as most are, and what was left out."""
    if bad_propensity:
        raise Refusal("zero", n=bad_propensity)
    rows = frame.drop_nulls("propensity")
    if rows.is_empty():
        raise Refusal("missing")
    ranked = pl.all_horizontal(pl.col(*pair).is_not_null())
    rows = rows.with_columns(
        market=pl.col("market").first().over("list_number"),
        seen=pl.col("converted").count().over("list_number"),
        total=pl.col("propensity").sum().over("list_number"),
        ranked=ranked.sum().over("list_number") == pl.col("n_candidates"),
    ).filter(pl.col("n_candidates") > 1)
    lists = rows.unique("list_number")
    usable = lists.filter("ranked", pl.col("seen") > 0)
    if usable.is_empty():
        raise Refusal("no_lists", n=int(frame["propensity"].count()))
    whole = pl.col("seen") == pl.col("n_candidates")
    sums_to_one = (pl.col("total") - 1).abs() <= TOLERANCE
    one_shown = (pl.col("seen") == 1) & sums_to_one
    n_whole, n_one = usable.select(whole.sum().alias("whole"), one_shown.sum().alias("one")).row(0)
    logging, fits = (CHOSEN, one_shown) if n_one > n_whole else (DRAWN, whole)
    kept = usable.filter(fits)
    odd = len(usable) - len(kept)
    if odd > MAX_ODD * len(usable):
        raise Refusal("mixed", n=odd, lists=len(usable))
    facts = {
        "logging": logging,
        "n_lists_not_ranked": int((~lists["ranked"]).sum()),
        "n_lists_without_outcome": int((lists["ranked"] & (lists["seen"] == 0)).sum()),
        "n_lists_odd": odd,
        "rows_without_propensity": int(frame["propensity"].null_count()),
        # one of them may be shown after all, and the others called unconverted for it
        "sums_to_one": logging == DRAWN and bool(kept.select(sums_to_one.all()).item()),
    }
    return rows.join(kept.select("list_number"), on="list_number", how="semi"), facts


def _lists(rows: pl.DataFrame, pair: Pair, logging: str) -> Lists:
    """Candidates as arrays, sorted by list."""
    rows = rows.sort("list_number", maintain_order=True)
    _, first, of = np.unique(
        rows["list_number"].to_numpy(), return_index=True, return_inverse=True
    )
    unit = rows["unit"].rank("dense").cast(pl.Int64).to_numpy()
    seen = rows["converted"].is_not_null().to_numpy()
    chance = rows["propensity"].to_numpy() if logging == CHOSEN else np.ones(len(rows))
    return Lists(
        scores=np.stack([rows[label].to_numpy() for label in pair]),
        y=rows["converted"].cast(pl.Float64).fill_null(0.0).to_numpy(),
        weight=seen / chance,
        of=of.astype(np.int64),
        unit=unit[first],
    )


def _first(scores: Floats, of: Ints, n_lists: int) -> Floats:
    """How likely each candidate is shown by the policy: the first, shared by ties [n]."""
    best = np.full(n_lists, -np.inf)
    np.maximum.at(best, of, scores)
    top = (scores == best[of]).astype(np.float64)
    return top / np.bincount(of, weights=top, minlength=n_lists)[of]


def _by_list(values: Floats, lists: Lists) -> Floats:
    sums = np.bincount(lists.of, weights=values, minlength=len(lists.unit))
    return sums.astype(np.float64)


def _effective(weight: NDArray[np.float64]) -> float:
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def _figures(
    values: list[Sums], positive: list[int], settings: EvaluationSettings
) -> dict[str, Any]:
    level = settings.confidence
    return {
        "arm": values[0].rate(level, known=positive[0] > 0),
        "against": values[1].rate(level, known=positive[1] > 0),
        "difference": values[0].minus(values[1]).figure(level, known=sum(positive) > 0),
    }


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {
        "refused": refusal.code,
        "detail": refusal.detail,
        "reason": ENGLISH.refusals[refusal.code].format(**refusal.detail),
    }
