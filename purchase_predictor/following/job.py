"""Following, step by step: read, join, measure, write, log."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from purchase_predictor import tracking
from purchase_predictor.checkpoint import write_file, write_json
from purchase_predictor.cli import Reporter
from purchase_predictor.following.drift import drift, flagged, period_of
from purchase_predictor.following.joining import Joined, Outcomes, join, read_outcomes, read_scores
from purchase_predictor.following.policy import policy_values
from purchase_predictor.following.realised import (
    Measured,
    long_table,
    realised,
    served_apart,
    shared_gaps,
)
from purchase_predictor.report.curves import calibration_points
from purchase_predictor.report.following_data import Followed, quoted
from purchase_predictor.settings import Settings


@dataclass(frozen=True)
class FollowJob:
    """Joins scores with outcomes and tells what became of the predictions.

    Attributes:
        settings: all settings; `evaluation`, `tracking` and `seed` count.
        scores: files of batch scoring.
        outcomes: data folder whose impressions carry `converted`.
        reporter: tells what happens.
    """

    settings: Settings
    scores: Sequence[Path]
    outcomes: Path
    reporter: Reporter

    def run(self) -> Followed:
        """Read, join, measure."""
        scores = read_scores(self.scores)
        if scores.n_training_period:
            self.reporter.warn(
                f"{scores.n_training_period:,} rows of scores are left out: they are of the time "
                "that their model learned from, where any model looks better than it is"
            )
        for model in scores.only_learned:
            self.reporter.warn(
                f"every row that {model} scored is of the time that it learned from: its figures, "
                "and those beside other models, are too good"
            )
        outcomes = read_outcomes(self.outcomes, max_title_chars=self.settings.data.max_title_chars)
        joined = join(scores, outcomes)
        self._tell(joined)
        how: dict[str, Any] = {"settings": self.settings.evaluation, "seed": self.settings.seed}
        self.reporter.step(f"{how['settings'].resamples:,} resamples of users")
        measured = Measured.of(joined, **how)
        figures = realised(measured)
        return Followed(
            data=self._describe(joined, outcomes),
            models=[
                {"model": m.label, "system": m.system, "model_version": m.version}
                for m in joined.models
            ],
            joined=joined.counts,
            realised=figures,
            calibration=long_table(figures),
            reliability=self._reliability(joined),
            drift=drift(joined, **how),
            flags=flagged(joined, **how),
            gaps=shared_gaps(measured),
            apart=served_apart(joined, **how),
            policy=policy_values(joined, bad_propensity=outcomes.bad_propensity, **how),
        )

    def _tell(self, joined: Joined) -> None:
        """What did not meet."""
        counts = joined.counts
        self.reporter.step(
            f"{counts['joined']:,} impressions joined, {counts['conversions']:,} converted"
        )
        told = {
            "impressions scored are not in the outcomes": counts["scores_not_in_outcomes"],
            "impressions scored have no outcome yet": counts["scores_outcome_not_known"],
            "impressions with an outcome have no score that counts": counts[
                "outcomes_without_score"
            ],
            "impressions were scored for another market than they were shown in": counts[
                "scored_for_another_market"
            ],
            "rows of scores are set aside": sum(counts["scores"]["set_aside"].values()),
            "impressions are set aside": sum(counts["outcomes"]["set_aside"].values()),
        }
        for what, number in told.items():
            if number:
                self.reporter.step(f"{number:,} {what}")

    def _reliability(self, joined: Joined) -> pl.DataFrame:
        evaluation = self.settings.evaluation
        return pl.concat(
            calibration_points(
                joined.happened(model.label), [model.label],
                n_bins=evaluation.ece_bins, confidence=evaluation.confidence,
            )
            for model in joined.models
        )  # fmt: skip

    def _describe(self, joined: Joined, outcomes: Outcomes) -> dict[str, Any]:
        evaluation = self.settings.evaluation
        return {
            "name": self.outcomes.resolve().name,
            "fingerprint": _fingerprint(self.scores, outcomes),
            "scores": [file.name for file in self.scores],
            "period": period_of(joined.happened()),
            "resamples": evaluation.resamples,
            "confidence": evaluation.confidence,
            "seed": self.settings.seed,
            "resampled": "units (users, or sessions where the user is unknown)",
            "min_conversions": evaluation.min_test_conversions,
        }


def write(followed: Followed, folder: Path) -> list[Path]:
    """Write `follow.json`, `calibration.parquet` and `drift.parquet`.

    Args:
        followed: what was found.
        folder: where; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "data": followed.data,
        "models": followed.models,
        "joined": followed.joined,
        "realised": followed.realised,
        "reliability": followed.reliability.to_dicts(),
        "drift": followed.drift.cast({"period": pl.String}).to_dicts(),
        "flags": followed.flags,
        "same_impressions": followed.gaps,
        "different_impressions": followed.apart,
        "policy": followed.policy,
    }
    files = [folder / name for name in ("calibration.parquet", "drift.parquet", "follow.json")]
    write_file(files[0], followed.calibration.write_parquet)
    write_file(files[1], followed.drift.write_parquet)
    write_json(files[2], whole)
    return files


def log(followed: Followed, files: Sequence[Path], settings: Settings) -> None:
    """A run of its own in MLflow, in the experiment of the data.

    Args:
        followed: what was found.
        files: logged as artifacts.
        settings: where the store is.
    """
    tags = {"command": "follow", "scope": "follow", "models": ", ".join(followed.labels())}
    with tracking.start_run(
        settings.tracking, experiment=followed.data["name"], run_name="follow", tags=tags
    ) as logged:
        logged.log_settings(
            {"seed": settings.seed, "evaluation": settings.evaluation.model_dump()}
        )
        logged.log_data(followed.data["fingerprint"], followed.data["name"], followed.joined)
        logged.log_result({entry["model"]: quoted(entry) for entry in followed.realised})
        logged.log_result({"policy": _values(followed.policy)})
        for file in files:
            logged.log_file(file)


def _values(policy: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Doubly robust differences over all markets, as metrics."""
    return {
        f"{entry['arm']} - {entry['against']}": entry["estimates"]["dr"]["difference"]
        for entry in policy
        if entry["scope"] == "pooled" and entry["refused"] is None
    }


def _fingerprint(files: Sequence[Path], outcomes: Outcomes) -> str:
    """A hash of what was read, the same wherever the files lie."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    buffer = io.BytesIO()
    outcomes.frame.write_ipc(buffer, compression="uncompressed")
    digest.update(buffer.getbuffer())
    return digest.hexdigest()[:16]
