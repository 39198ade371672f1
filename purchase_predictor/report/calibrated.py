"""What the figures of a run say of its calibration, in words."""

from purchase_predictor.report.figures import Result, text

ECE_NOTE = (
    "ECE is never negative and chance raises it: its interval reaches down from the figure, to 0 "
    "where chance alone could be all of it."
)


def calibration_sentences(result: Result) -> list[str]:
    """A sentence for each way in which a system's probabilities are surely off, all rows pooled.

    Args:
        result: what `evaluate` returned.
    """
    said = {
        ("slope", True): "the highest are too high and the lowest too low",
        ("slope", False): "the highest are too low and the lowest too high",
        ("mean_ratio", True): "fewer conversions are predicted than came",
        ("mean_ratio", False): "more conversions are predicted than came",
    }
    names = {"slope": "calibration slope", "mean_ratio": "mean prediction / rate"}
    told = []
    for system, entry in result["systems"].items():
        for metric, name in names.items():
            found = entry["pooled"][metric]
            if found["low"] is None or found["low"] <= 1 <= found["high"]:
                continue
            what = said[metric, found["high"] < 1]
            told.append(f"{system}, {name} (all rows): {text(found, '.2f')}: {what}")
    return told
