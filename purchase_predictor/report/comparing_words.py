"""What the report of the comparison says, in each of its languages."""

from dataclasses import dataclass

from purchase_predictor.report import comparing_korean
from purchase_predictor.report.language import in_language


@dataclass(frozen=True)
class Words:
    """Headings, notes and patterns of the page; braces are filled in by `str.format`."""

    title: str
    what: str
    bottom_line: str
    bottom_untrained: str
    bottom_pooled: str
    own_question: str
    own_answer: str
    own_undecided: str
    own_untrained: str
    own_unstopped: str
    nobody: str
    size_question: str
    size_answer: str
    size_unseen: str
    size_global: str
    size_local: str
    size_neither: str
    size_left_out: str
    size_unstopped: str
    new_question: str
    new_answer: str
    country_question: str
    country_answer: str
    culture_question: str
    culture_answer: str
    culture_shown: str
    culture_not_shown: str
    left_out: str
    preliminary: str
    rows: str
    rows_text: str
    by_flat: str
    caveat_averages: str
    market: str
    verdict: str
    verdict_global: str
    verdict_local: str
    verdict_equivalent: str
    verdict_not_enough: str
    verdict_undecided: str
    verdict_untrained: str
    over_chance: str
    under_chance: str
    chance_undecided: str
    verdict_same: str
    gap: str
    gap_axis: str
    gap_note: str
    mean: str
    new_market: str
    arms: str
    arms_note: str
    arm: str
    auc: str
    auc_difference: str
    entropy: str
    curve: str
    curve_axis: str
    curve_gap: str
    curve_note: str
    break_even: str
    more_than: str
    fewer_than: str
    conversions: str
    test_conversions: str
    kind_question: str
    kind_answer: str
    detectable: str
    p_holm: str
    transfer: str
    transfer_note: str
    trained_on: str
    served: str
    never_seen: str
    never_seen_note: str
    culture: str
    culture_note: str
    trend: str
    trend_axis: str
    trend_note: str
    exploratory: str
    exploratory_note: str
    against: str
    metric: str
    table: str
    caveats: str
    caveat_primary: str
    caveat_undecided: str
    caveat_seeds: str
    caveat_dimensions: str
    caveat_unstopped: str
    caveat_flat: str
    caveat_full: str
    seeds: str
    system: str
    data: str
    kappa: str
    never: str


ENGLISH = Words(
    title="One model for all markets, or each its own?",
    what=(
        "Every market was served by a model of its own rows and by models of all markets, on the "
        "same future impressions. The gap is the difference of their AUC: how often a purchase is "
        "ranked above a non-purchase."
    ),
    bottom_line=(
        "One model for all serves {n_global} of {n:market|markets} better, their own models serve "
        "{n_local} better and either serves {n_equivalent} equally well; for {n_unknown} there is "
        "not enough data to tell."
    ),
    bottom_untrained=(
        " In {n} more no model of their own could be trained: there the model for all is better "
        "than chance in {n_better}."
    ),
    bottom_pooled=(
        " On average over markets like these the global model's AUC is {value} higher ({low} to "
        "{high}; zero inside means it may be none)."
    ),
    own_question="Which markets should have a model of their own?",
    own_answer="Of their own: {local}. The model for all: {everyone}. Either: {equivalent}.",
    own_undecided=(
        " Not shown either way: {unknown}. Until it is, the model for all is the simpler choice: "
        "it is one to keep, and needs no conversions of the market."
    ),
    own_untrained=(
        " No model of their own could be trained for: {untrained}. The model for all is better "
        "than chance there in: {better}."
    ),
    own_unstopped=(
        " The own models of {unstopped} had no rows to be stopped by (last section): their gaps "
        "may be those of models trained too long or too briefly."
    ),
    nobody="none",
    size_question="From how many conversions on?",
    size_answer=(
        "In the learning curves the market's own model drew level at, with {level} intervals: "
        "{found}."
    ),
    size_unseen=(
        "Not seen: in the learning curves no market's own model drew level with the model for all "
        "within the training conversions that it has (at most {largest}, {market})."
    ),
    size_global=(
        "By the trend over {n} markets of the gaps of the models compared (exploratory) the model "
        "for all is expected to be the better one in a market of {span} training conversions: "
        "there the {level} interval of its lead is above zero, among sizes of {smallest} to "
        "{largest}."
    ),
    size_local=(
        "By the trend over {n} markets of the gaps of the models compared (exploratory) its own "
        "model is expected to be the better one in a market of {span} training conversions: there "
        "the {level} interval of its lead is above zero, among sizes of {smallest} to {largest}."
    ),
    size_neither=(
        "The trend over {n} markets of the gaps of the models compared (exploratory) shows "
        "neither model to be better at any size from {smallest} to {largest} training conversions "
        "({level} interval)."
    ),
    size_left_out=(
        "Such intervals, with the chance of the test rows added, held the gap in {share} of the "
        "markets that can be left out in turn."
    ),
    size_unstopped=(
        "The trend rests on {unstopped}, too, whose own models had no rows to be stopped by."
    ),
    new_question="What to expect in a new country?",
    new_answer=(
        "A model that never saw the country has on average an AUC {value} ({low} to {high}) "
        "higher than one that did (below zero: lower); in single countries {least} to {most}."
    ),
    country_question="Does it help to tell the model which country it is?",
    country_answer=(
        "Being told is worth {worth} AUC on average over these markets (below zero: it harms). "
        "Exploratory."
    ),
    culture_question="Does it help to tell it of the culture of a country never seen?",
    culture_answer=(
        "Cultural dimensions are worth {worth} AUC on average (below zero: they harm); beyond "
        "numbers drawn at random, {n:draw|draws} of them: {beyond}. {shown} Exploratory."
    ),
    culture_shown="They tell something: every interval lies above zero.",
    culture_not_shown="That they tell anything is not shown: not every interval lies above zero.",
    left_out=(
        "--quick left out learning curves, transfer and culture: without it LightGBM measures "
        "them, with --full the fusion does."
    ),
    preliminary="1: preliminary, a published claim needs five",
    rows="Rows",
    rows_text=(
        "{n} in training with {positive:conversion (purchase)|conversions (purchases)}, in the "
        "{markets:market|markets} compared; models for all learn from all markets of the data"
    ),
    by_flat=" By LightGBM on simple columns: not to be read beside figures of other models.",
    caveat_averages=(
        "The average in the box allows for markets that differ (random effects). “macro” is the "
        "mean of these very markets, those without a model of their own left out, and its "
        "interval is narrower."
    ),
    market="Market",
    verdict="Verdict",
    verdict_global="one model for all",
    verdict_local="its own model",
    verdict_equivalent="equivalent (within ±{margin})",
    verdict_not_enough="not enough data: {n:test conversion|test conversions}",
    verdict_untrained=(
        "no model of its own: {n:training conversion|training conversions}, or too few rows to "
        "stop or calibrate it by"
    ),
    over_chance="; the model for all beats chance (AUC 0.5) by {gap}",
    under_chance="; the model for all is worse than chance (AUC 0.5), by {gap}",
    chance_undecided="; whether the model for all beats chance cannot be told",
    verdict_same="the same to {digits} digits",
    verdict_undecided=(
        "not enough data: a gap of {detectable} or more would be found four times in five"
    ),
    gap="Global minus local",
    gap_axis="AUC, global − local",
    gap_note=(
        "Right of zero one model for all is better. Bars: paired {level} intervals, users "
        "resampled; p is corrected for testing several markets (Holm), intervals are not; "
        "“smallest detectable” is what would be found four times in five. The last rows: mean "
        "over markets (Hartung–Knapp) and the interval for one more. Markets without a model of "
        "their own stand in the table."
    ),
    mean="Mean of markets",
    new_market="A new market (size not considered)",
    arms="All ways to serve a market",
    arms_note=(
        "AUC within each market with {level} intervals. global: one model for all, told the "
        "country; with-adapters: its layers are tuned to the country; adapted: trained on with "
        "the market's rows; local: those rows alone; pooled: a weighted mean of global and local."
    ),
    arm="Arm",
    auc="AUC",
    auc_difference="Difference in AUC",
    entropy="Normalised entropy",
    curve="When does a market's own model catch up?",
    curve_axis="Training conversions of the local model",
    curve_gap="AUC, local − global",
    curve_note=(
        "Models of subsets of each market's users; above zero the local model has caught up with "
        "the model of all markets."
    ),
    break_even="Break-even",
    more_than="more than {n}",
    fewer_than="{n} or fewer",
    conversions="Training conversions",
    test_conversions="Test conversions",
    kind_question="Which model for all?",
    kind_answer=(
        "The one whose layers are tuned to the country (global-with-adapters) has on average an "
        "AUC {value} ({low} to {high}) higher than the plain one (below zero: lower). Exploratory."
    ),
    detectable="Smallest detectable",
    p_holm="p (Holm)",
    transfer="Train on one market, serve another",
    transfer_note="AUC. A row is the market trained on, a column the market served.",
    trained_on="Trained on",
    served="Serves",
    never_seen="A market never seen",
    never_seen_note=(
        "A model of all other markets, nothing learned from this one, minus one of all: below "
        "zero is what it costs to open a market without a single row of it."
    ),
    culture="Does culture tell anything of a new market?",
    culture_note=(
        "AUC in a market never seen, by what the model is told of it, minus being told nothing. "
        "Cultural dimensions are worth something only beyond the random vectors."
    ),
    trend="Global minus local by the size of a market",
    trend_axis="Training conversions",
    trend_note=(
        "The gap against log conversions, within the sizes seen; band: {level} interval of the "
        "gap that is expected of a new market of that size."
    ),
    exploratory="All contrasts",
    exploratory_note=(
        "Exploratory but for the first: p is corrected for the markets of a contrast (Holm), not "
        "for the number of contrasts. NE: normalised entropy, lower is better."
    ),
    against="Against",
    metric="Metric",
    table="Table",
    caveats="What this does not say",
    caveat_primary=(
        "One contrast was declared before looking: AUC within the market, global with country "
        "minus local. All others are exploratory."
    ),
    caveat_undecided=(
        "“Not enough data” is not “equal”: equivalence is said only where both one-sided tests "
        "show a gap within ±{margin}."
    ),
    caveat_seeds=(
        "Intervals hold the chance of the test rows{and_models}; a published claim needs five "
        "seeds."
    ),
    caveat_dimensions=(
        "Cultural dimensions (Hofstede, 2015) describe countries, never persons; the reliability "
        "of uncertainty avoidance and masculinity is disputed (Minkov 2018)."
    ),
    caveat_unstopped=(
        "{markets}: the half of validation that would stop training has one outcome only (under "
        "one of the seeds, at least). There a local network learns to its last epoch and answers "
        "without the readout, an adapted network stays that of all markets and only its "
        "readout learns, LightGBM grows as many trees as in the model for all, and no learning "
        "curve is drawn."
    ),
    caveat_flat=(
        "Learning curves, transfer and culture use LightGBM without pictures, titles and "
        "next-click scores, so their AUCs are below those of the arms."
    ),
    caveat_full=(
        "Learning curves, transfer and culture use the fusion, trained anew for each point from "
        "the markets named alone, encoders of pictures and titles included."
    ),
    seeds="Seeds",
    system="System",
    data="Data",
    kappa="Conversions at which the pooled arm weighs a local model half (no break-even)",
    never="never",
)

KOREAN = Words(**comparing_korean.KOREAN)

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}


def words_of(language: str) -> Words:
    """The words of a language, `en` or `ko`.

    Raises:
        SettingsError: if the report is not written in it.
    """
    return in_language(LANGUAGES, language)
