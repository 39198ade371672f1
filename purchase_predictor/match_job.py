"""The job of `match`, step by step: read, train encoders, climb the ladder, match, write, log."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from purchase_predictor import tracking
from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter, make_output
from purchase_predictor.counted import Counted
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.encoders.store import digest
from purchase_predictor.encoders.text import SMALL
from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.job import peak_memory_gb, sample_folder
from purchase_predictor.matching.findings import Findings, find, right_pairs
from purchase_predictor.matching.gallery import draw_galleries
from purchase_predictor.matching.generations import Generations, fit_generations
from purchase_predictor.matching.ladder import UNTRAINED, Ladder, Step, make_rungs
from purchase_predictor.matching.listings import HASH, Listings, read_listings
from purchase_predictor.matching.page import facts, make_report
from purchase_predictor.matching.strategies import Alone, Search
from purchase_predictor.report import matching as page
from purchase_predictor.settings import MatchSettings

FINE_TUNING_RATE = 3e-4
"""A larger learning rate makes a pretrained encoder forget more than it learns."""


class MatchJob:
    """One run of `match`.

    Args:
        settings: all settings.
        data: data folder; None is the sample marketplace.
        folder: where the files go.
        language: of the page's own words, `en` or `ko`.
        reporter: tells what is going on.
    """

    def __init__(
        self,
        *,
        settings: MatchSettings,
        data: Path | None,
        folder: Path,
        language: str,
        reporter: Reporter,
    ) -> None:
        self.settings = settings
        self.data = data
        self.folder = folder
        self.language = language
        self.reporter = reporter

    def run(self) -> None:
        """Read, train, climb, match, write, log, print."""
        began = time.perf_counter()
        make_output(self.folder)
        source = sample_folder(self.reporter) if self.data is None else self.data
        listings = self._read(source)
        with tracking.start_run(
            self.settings.tracking,
            experiment=source.resolve().name,
            run_name="match",
            tags={"command": "match"},
        ) as logged:
            logged.log_settings(self.settings.model_dump())
            logged.log_data(_fingerprint(listings), source.resolve().name, _counts(listings))
            generations = fit_generations(listings, self.settings, progress=self.reporter.step)
            self._warn_of_pictures(generations)
            save_encoders(generations.encoders[generations.last], self.folder / "encoders")
            ladder = self._climb(listings, generations)
            self._write_json("ladder.json", [step.row() for step in ladder.steps_])
            curve = ladder.curve(_drawn(ladder))
            self._write_json("curve.json", curve)
            self.reporter.step(f"matching all {len(listings):,} listings")
            findings = self._find(listings, generations, ladder)
            write_file(self.folder / "matches.parquet", findings.table.write_parquet)
            report = make_report(listings, generations, ladder, curve, findings, self.settings)
            page.write_match_report(report, self.folder / "report.html", language=self.language)
            seconds = time.perf_counter() - began
            self._log(logged, ladder, seconds)
        self._print(listings, ladder, findings, seconds)

    # ---- read

    def _read(self, source: Path) -> Listings:
        listings = read_listings(source, self.settings.data, seed=self.settings.seed)
        catalogue, reporter = listings.catalogue, self.reporter
        write_file(self.folder / "quarantine.parquet", catalogue.quarantine.write_parquet)
        reporter.table(
            "Rows",
            ["table", "read", "used", "set aside"],
            [["products", *(f"{n:,}" for n in _counts(listings).values())]],
        )
        reasons = catalogue.quarantine.group_by("reason").len().sort("len", descending=True)
        for reason, n in reasons.iter_rows():
            reporter.warn(f"products: {Counted(n):row|rows} set aside: {reason}")
        for note in (*catalogue.notes, *_warnings(listings, self.settings)):
            reporter.warn(note)
        for label, value in facts(listings).items():
            reporter.line(f"{label}: {value}")
        _check_parts(listings)
        _check_galleries(listings, self.settings.ladder.galleries)
        return listings

    def _warn_of_pictures(self, generations: Generations) -> None:
        failures = generations.views[generations.last].failures
        for product, path, reason in failures[:5]:
            self.reporter.warn(f"picture {path} of product {product} is not read: {reason}")
        if len(failures) > 5:
            self.reporter.warn(f"{len(failures):,} pictures in all are not read")

    # ---- climb

    def _climb(self, listings: Listings, generations: Generations) -> Ladder:
        settings, cap = self.settings.ladder, self.settings.ladder.largest_group
        rungs = make_rungs(
            generations.views,
            tfidf=settings.tfidf,
            veto=settings.veto,
            image_name=listings.shown_by or "image",
        )
        search = Search(
            union_trials=settings.union_trials,
            blending_trials=settings.blending_trials,
            cap=cap,
            seed=self.settings.seed,
            progress=self.reporter.step,
        )
        return Ladder(
            rungs=rungs,
            views=generations.views,
            split=listings.split,
            titles=listings.products["title"],
            settings=settings,
            search=search,
            seed=self.settings.seed,
            progress=self.reporter.step,
        ).climb()

    def _find(self, listings: Listings, generations: Generations, ladder: Ladder) -> Findings:
        settings = self.settings.ladder
        return find(
            listings,
            generations.views[generations.last],
            ladder.best(),
            _alone(ladder),
            k=settings.neighbours,
            cap=settings.largest_group,
        )

    # ---- write

    def _write_json(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
        write_file(self.folder / name, lambda path: Path(path).write_text(text, "utf-8"))

    # ---- log and print

    def _log(self, logged: tracking.Run, ladder: Ladder, seconds: float) -> None:
        self.reporter.step("logging to MLflow")
        figures: dict[str, Any] = {"seconds": seconds, "peak_memory_gb": peak_memory_gb()}
        for step in ladder.steps_:
            figures[f"{step.rung.name}.gallery {step.gallery}"] = {
                "f1": step.f1, "validation_f1": step.validation_f1,
            }  # fmt: skip
        logged.log_result(figures)
        names = ("ladder.json", "curve.json", "matches.parquet", "quarantine.parquet")
        for name in (*names, "report.html"):
            logged.log_file(self.folder / name)
        logged.log_folder(self.folder / "encoders", "encoders")

    def _print(
        self, listings: Listings, ladder: Ladder, findings: Findings, seconds: float
    ) -> None:
        reporter, best = self.reporter, ladder.best()
        reporter.show(page.ladder_table([step.row() for step in ladder.steps_]))
        reporter.line(
            f"best on validation groups: {best.rung.name}; it matched all {len(listings):,} "
            f"listings: {int((findings.table['n_matches'] > 1).sum()):,} have a match, "
            f"{findings.table['cluster'].n_unique():,} clusters"
        )
        check = findings.categories
        if check is not None and check.accuracy is not None:
            reporter.line(
                f"suggested categories: {check.accuracy:.1%} right on {check.n_suggested:,} "
                "listings whose category was hidden and whose duplicates did not vote "
                f"(always the commonest: {check.commonest:.1%})"
            )
        right, labelled = right_pairs(findings.matches, listings.split)
        if labelled:
            reporter.line(
                f"of {labelled:,} matched pairs of labelled listings, those that taught among "
                f"them, {right / labelled:.1%} are of one match group; the others join no clusters"
            )
        reporter.line(
            f"{len(findings.spread):,} clusters with several prices, "
            f"{len(findings.suspects):,} listings with the title of one product and the picture "
            "of another"
        )
        reporter.line(f"{seconds:.0f} s, peak memory {peak_memory_gb():.1f} GB")
        reporter.line(
            f"written to {self.folder}: encoders/, matches.parquet, ladder.json, curve.json, "
            "report.html, quarantine.parquet"
        )


def save_encoders(content: ContentEncoders, folder: Path) -> None:
    """Write encoders into a folder that is there whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    content.save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _warnings(listings: Listings, settings: MatchSettings) -> list[str]:
    """What a user may not expect of the pictures and of the encoders named."""
    told = []
    failures = listings.pictures.failures
    if failures:
        path, reason = next(iter(failures.items()))
        told.append(f"{len(failures):,} picture files cannot be read, as {path}: {reason}")
    n_pictures = int((listings.pictures.number >= 0).sum())
    if listings.shown_by == HASH and n_pictures:
        told.append(
            f"the picture view is the hashes', which most listings have: {n_pictures:,} pictures "
            "are not looked at and no image encoder is trained"
        )
    for name, view in (("text", settings.text), ("image", settings.image)):
        named = [encoder for encoder in view.encoders if encoder != SMALL]
        if named and view.epochs and view.learning_rate > FINE_TUNING_RATE:
            told.append(
                f"{name}.learning_rate is {view.learning_rate:g}, which suits the small encoder; "
                f"fine-tuning {named[0]} usually takes {FINE_TUNING_RATE:g} or less and fewer "
                f"{name}.epochs, see configs/match-shopee-cpu.yaml"
            )
    return told


def _check_parts(listings: Listings) -> None:
    """See that there is something to learn from, to tune on and to judge on."""
    split = listings.split
    if not split.grouped.any():
        raise DataError(
            "no product has a match_group: matching learns from listings that are labelled as the "
            "same product and is judged on others (column match_group of products)"
        )
    if not (split.grouped & listings.eligible).any():
        raise DataError(
            "no product with a match group was seen in an event or impression of the training "
            "period, so encoders that may feed purchase prediction have nothing to learn from"
        )
    for part in ("train", "validation", "test"):
        if not (split.grouped & (split.part == part)).any():
            raise DataError(
                f"no listing of the {part} part has a match group: matching learns from groups "
                "of the same product and is judged on others (match_group of products); parts go "
                "by the MD5 of the group, so a few dozen groups are the least"
            )


def _check_galleries(listings: Listings, sizes: Sequence[int]) -> None:
    """See that there are galleries of every size, before encoders are trained for hours."""
    if not sizes:
        raise SettingsError(
            "ladder.galleries names no size: give the listings of a gallery, 0 for all"
        )
    for size in sizes:
        for part in ("validation", "test"):
            draw_galleries(listings.split, part, size=size)


def _counts(listings: Listings) -> dict[str, int]:
    rows = listings.catalogue.rows
    return {"read": rows.read, "used": rows.used, "set_aside": rows.set_aside}


def _fingerprint(listings: Listings) -> str:
    """Hash of the products and of their pictures."""
    products, pictures = listings.products, listings.pictures
    columns = [products[name].to_list() for name in ("product_id", "title", "match_group")]
    hashes = products["image_hash"].to_list()
    return digest([*columns, hashes, pictures.number.tolist(), pictures.digests])


def _drawn(ladder: Ladder) -> list[Step]:
    """The rungs whose curves are drawn: the single views and the best, at the largest gallery."""
    largest = max(step.gallery for step in ladder.steps_)
    best = ladder.best()
    names = {"TF-IDF", "title", "image", "picture hash", best.rung.name}
    return [step for step in ladder.steps_ if step.gallery == largest and step.rung.name in names]


def _alone(ladder: Ladder) -> dict[str, float]:
    """Thresholds of the image and title views when used alone, in the largest gallery."""
    largest = max(step.gallery for step in ladder.steps_)
    return {
        name: step.thresholds[name][0]
        for step in ladder.steps_
        if step.gallery == largest
        and isinstance(step.rung.strategy, Alone)
        and step.rung.generation != UNTRAINED
        and not step.rung.strategy.second
        for name in ("image", "title")
        if name in step.thresholds
    }
