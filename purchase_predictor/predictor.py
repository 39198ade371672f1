"""PurchasePredictor: fit, predict, evaluate, save and load, without the command line."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, get_args

import polars as pl

from features.arrays import TEST, TRAIN, EncodedMarket
from features.encoding import FeatureEncoder
from features.leaks import leaky_columns
from features.schema import Tables
from features.splits import training_products
from purchase_predictor.baselines.registry import make_baseline
from purchase_predictor.checkpoint import ModelFolder, read_folder, write_folder
from purchase_predictor.encoders.content import ContentEncoders, silent
from purchase_predictor.errors import ModelFolderError, SettingsError, nearest
from purchase_predictor.evaluation.summary import evaluate
from purchase_predictor.facts import Facts, Scope
from purchase_predictor.fitting import FittedSystems, Fitting, predictions
from purchase_predictor.given import read_given
from purchase_predictor.panel import Panel
from purchase_predictor.reference import Reference, some_held_out
from purchase_predictor.scored import scored_frame, scored_sentences, unseen_in
from purchase_predictor.settings import Settings
from purchase_predictor.training.loop import OnEpoch, Progress, no_epoch
from purchase_predictor.training.next_click import NextClick
from purchase_predictor.training.picture_phrases import PicturePhrases
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.processes import make_accelerator
from purchase_predictor.training.selection import (
    ALL_MARKETS,
    Selection,
    check_rows,
    fingerprint,
    select_market,
    split_by,
)

_PICTURE_PHRASES = "picture_phrases"


class PurchasePredictor:
    """Predicts conversion with the fusion transformer, its baselines and their stack.

    Args:
        settings: all settings.
        market: a market, or `all`.
        scope: `local` learns from that market alone, `global` from all, `adapted` fine-tunes the
            global model to the market. By default local, or global where the market is `all`.

    Attributes:
        panel_: the fitted systems, their calibration and their stack.
        fitted_: how they came out of fitting; only where they were fitted, not loaded.
        facts_: how the model was made.
        reference_: what inputs and scores of test rows were like; None in models of before.
    """

    preparation_: Preparation
    data_: EncodedMarket
    fitted_: FittedSystems
    reference_: Reference | None = None

    def __init__(
        self, settings: Settings, *, market: str = ALL_MARKETS, scope: Scope | None = None
    ) -> None:
        self.settings = settings
        self.market = market
        self.scope: Scope = scope or ("global" if market == ALL_MARKETS else "local")
        if self.scope not in get_args(Scope):
            scopes = get_args(Scope)
            raise SettingsError(f"there is no scope '{scope}'{nearest(str(scope), scopes)}")
        if market == ALL_MARKETS and self.scope != "global":
            raise SettingsError(f"scope {self.scope} needs one market, name it with --market")
        for name in settings.baselines.systems:  # a typo is told now, not after hours of training
            make_baseline(name, settings.baselines)

    # ---- fit

    def fit(
        self,
        data: Path | str | Tables,
        *,
        checkpoints: Path | None = None,
        content: ContentEncoders | None = None,
        shared: "PurchasePredictor | None" = None,
        rounds: Mapping[str, int] | None = None,
        resume: bool = False,
        progress: Progress = silent,
        on_epoch: OnEpoch = no_epoch,
    ) -> Self:
        """Learn everything from the training rows and calibrate on validation rows.

        Args:
            data: a data folder or checked tables, with labels.
            checkpoints: folder in which training can be resumed; None keeps none.
            content: trained encoders of pictures and titles; None trains those of the settings.
            shared: a global predictor fitted on the same data, whose features, encoders and
                pre-training are taken; an adapted model begins with its fusion.
            rounds: of each baseline of a model of all markets, for a local or adapted one whose
                own rows cannot stop training.
            resume: goes on from the checkpoints.
            progress: told a line at each step.
            on_epoch: told the figures of each epoch.

        Raises:
            DataError: the rows cannot be learned from or judged on, or `content` was trained on
                products of the validation or test period.
        """
        limit, store = self.settings.data.max_title_chars, self.settings.training.array_store
        tables = read_given(
            data, require_labels=True, max_title_chars=limit, store=store, stacklevel=3
        )
        split = split_by(tables, self.settings)
        learns_from = self.market if self.scope == "local" else ALL_MARKETS
        if shared is not None and learns_from != ALL_MARKETS:
            raise SettingsError("a local model shares nothing with other markets' models")
        selection = select_market(tables, split, learns_from)
        for wanted in {learns_from, self.market}:
            rows = select_market(tables, split, wanted)
            stops = wanted == ALL_MARKETS or rounds is None
            check_rows(rows, wanted, self.settings.data.min_conversions, stops=stops)
        if shared is not None:
            self.preparation_, self.data_ = shared.preparation_, shared.data_
        else:
            self.preparation_ = Preparation(self.settings)
            self.data_ = self.preparation_.fit(
                selection,
                content=self.fit_content(tables, content, progress=progress),
                folder=checkpoints,
                resume=resume,
                progress=progress,
                on_epoch=on_epoch,
            )
        learned = self._fit_systems(shared, rounds, checkpoints, resume, progress, on_epoch)
        self.facts_ = self._facts(tables, selection, learned)
        held = some_held_out(learned, seed=self.settings.seed)
        self.reference_ = Reference.fit(held, self.panel_.predict_proba(held))
        return self

    def fit_content(
        self,
        tables: Tables,
        content: ContentEncoders | None = None,
        *,
        progress: Progress = silent,
    ) -> ContentEncoders:
        """Encoders of pictures and titles that have learned from training products alone.

        Args:
            tables: checked, of all markets.
            content: trained ones, which are checked; None trains those of the settings.
            progress: told what happens.

        Raises:
            DataError: `content` was trained on products of the validation or test period.
        """
        training = training_products(tables, split_by(tables, self.settings))
        if content is None:  # one after another: the others find what the first has trained
            with make_accelerator().main_process_first():
                content = ContentEncoders.fit(
                    tables.products,
                    tables.folder,
                    self.settings.encoders,
                    self.settings.data,
                    training=training,
                    seed=self.settings.seed,
                    progress=progress,
                )
        content.check_trained_within(tables.products["product_id"], training)
        return content

    def _fit_systems(
        self,
        shared: "PurchasePredictor | None",
        rounds: Mapping[str, int] | None,
        folder: Path | None,
        resume: bool,
        progress: Progress,
        on_epoch: OnEpoch,
    ) -> EncodedMarket:
        clicks, data = self.preparation_.clicks_, self.data_
        fitting = Fitting(
            self.settings,
            self.preparation_.sizes(),
            None if clicks is None else clicks.model_.state_dict(),
            folder=folder,
            resume=resume,
            progress=progress,
            on_epoch=on_epoch,
            rounds=None if self.scope == "adapted" else rounds,
        )
        if self.scope == "adapted":
            start = fitting.fusion(data) if shared is None else shared.fitted_.fusion
            progress(f"fine-tuning the global model to {self.market}")
            data = self._market_rows(data)
            fitting = replace(fitting, rounds=rounds)
            fusion = fitting.fusion(data, start)
        else:
            fusion = fitting.fusion(data)
        self.fitted_ = fitting.beside(fusion, data)
        self.panel_ = self.fitted_.panel
        return data

    def _facts(self, tables: Tables, selection: Selection, data: EncodedMarket) -> Facts:
        split, training = selection.split, data.part == TRAIN
        clicks = self.preparation_.clicks_
        test = self._market_rows(self.data_.select(self.data_.part == TEST))
        return Facts(
            market=self.market,
            scope=self.scope,
            fingerprint=fingerprint(tables),
            cuts=None if split.cuts is None else split.cuts.to_dict(),
            n_straddling=split.n_straddling,
            champion=self.panel_.champion,
            validation_log_loss=dict(self.panel_.log_loss_),
            identity_coverage=self.preparation_.coverage_,
            identities=self.preparation_.identities_,
            picture_phrases=data.products.picture_phrase_names,
            next_click_auc={} if clicks is None else clicks.auc_,
            leaks=dict(leaky_columns(self.data_)),
            encoders_saw_other_markets=self.scope == "local"
            and tables.impressions["market"].n_unique() > 1,
            n_train=int(training.sum()),
            n_train_conversions=int(data.converted[training].sum()),
            unseen_markets=unseen_in(test),
            learned_until=float(self.data_.time[self.data_.before_test()].max()),
        )

    # ---- predict and evaluate

    @property
    def system_names(self) -> list[str]:
        """Names of the systems, the stack last."""
        return self.panel_.names

    def predict_proba(self, data: Path | str | Tables, system: str | None = None) -> pl.DataFrame:
        """Calibrated probability that each impression converts.

        Args:
            data: a data folder or checked tables; labels are not needed.
            system: `fusion`, `lightgbm`, `tabnet` or `stack`; the champion by default.

        Returns:
            `impression_id, market, probability, flags`, in the order of the input. Rows of a
            folder that cannot be used are not among them: a warning tells how many; others tell of
            pictures that are not read, of markets that training never saw, and of each table or
            column that the folder lacks.
        """
        name = self.system_named(system)
        encoded = self.preparation_.encode(self._scored_tables(data))
        probability = self.panel_.predict_proba(encoded, [name])[name]
        scored = scored_frame(encoded, probability, self.facts_.learned_until).drop("row")
        for sentence in scored_sentences(scored, self.preparation_, self.facts_):
            warnings.warn(sentence, stacklevel=2)
        return scored

    def system_named(self, system: str | None) -> str:
        """The system of that name, the champion where it is None.

        Raises:
            SettingsError: the model has no such system.
        """
        name = system or self.facts_.champion
        if name not in self.system_names:
            known = ", ".join(self.system_names)
            hint = nearest(name, self.system_names)
            raise SettingsError(f"the model has no system '{name}' among {known}{hint}")
        return name

    def predict_test(self) -> pl.DataFrame:
        """Probabilities of every system on the test rows that `fit` held out.

        Returns:
            `impression_id, market, converted, unit, list_number` and a column for each system.
        """
        data = self._market_rows(self.data_)
        test = data.select(data.part == TEST)
        return predictions(self.panel_, test)

    def evaluate(
        self, data: Path | str | Tables | None = None, *, truth: pl.DataFrame | None = None
    ) -> dict[str, Any]:
        """Metrics with intervals for every system.

        Args:
            data: labelled rows; None takes the test rows that `fit` held out.
            truth: known probabilities of the rows, for the ceilings.

        Returns:
            The `systems`, `ceilings` and `gaps` of `metrics.json`.
        """
        if data is None:
            labelled = self.predict_test()
        else:
            encoded = self.preparation_.encode(self._scored_tables(data, require_labels=True))
            labelled = predictions(self.panel_, encoded)
        return evaluate(
            labelled,
            systems=self.system_names,
            settings=self.settings.evaluation,
            seed=self.settings.seed,
            truth=truth,
        )

    def explain(self, data: Path | str | Tables) -> pl.DataFrame:
        """What words, picture, events, terms and whole modalities contribute to each impression.

        Args:
            data: a data folder or checked tables; labels are not needed.

        Returns:
            As `contributions.parquet`, log-odds of fusion and LightGBM before calibration.
        """
        # only here: whoever only predicts needs no captum
        from purchase_predictor.attribution.contributions import Contributions

        tables = self._scored_tables(data)
        encoded = self.preparation_.encode(tables)
        asked = Contributions.of_systems(self.panel_.systems_, self.preparation_, tables, encoded)
        return pl.concat([part.frame for part in asked.batches()])

    def _market_rows(self, data: EncodedMarket) -> EncodedMarket:
        if self.market == ALL_MARKETS:
            return data
        return data.select(data.market_label == self.market)

    def _scored_tables(self, data: Path | str | Tables, *, require_labels: bool = False) -> Tables:
        """Tables in which context columns have the types they had in training."""
        return read_given(
            data,
            require_labels=require_labels,
            max_title_chars=self.settings.data.max_title_chars,
            context=self.preparation_.features_.context_,
            reference=self.reference_,
            stacklevel=4,
        )

    # ---- save and load

    def save(self, folder: Path) -> None:
        """Write a folder that holds all the model needs: safetensors, JSON and LightGBM text."""
        clicks, probe = self.preparation_.clicks_, self.preparation_.picture_phrases_
        documents: dict[str, Any] = {
            "settings": self.settings.model_dump(),
            "facts": asdict(self.facts_),
            "features": self.preparation_.features_.to_dict(),
            "panel": self.panel_.to_dict(),
        }
        if self.reference_ is not None:
            documents["reference"] = self.reference_.to_dict()
        folders = {name: system.save for name, system in self.panel_.systems_.items()}
        folders["encoders"] = self.preparation_.content_.save
        if clicks is not None:
            folders["clicks"] = clicks.save
        tensors = {} if probe is None else {_PICTURE_PHRASES: probe.tensors()}
        write_folder(folder, tensors=tensors, documents=documents, folders=folders)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Undo `save`; the folder may have moved.

        Raises:
            ModelFolderError: the folder is not whole, was changed or is of another version.
        """
        saved = read_folder(Path(folder))
        try:
            settings = Settings.model_validate(saved.document("settings"))
            facts = Facts(**saved.document("facts"))
            reference = None
            if "reference.json" in saved.manifest["files"]:
                reference = Reference.from_dict(saved.document("reference"))
            features = FeatureEncoder.from_dict(saved.document("features"))
        except (ValueError, TypeError) as error:
            raise ModelFolderError(f"{folder} was written by another version") from error
        predictor = cls(settings, market=facts.market, scope=facts.scope)
        predictor.facts_, predictor.reference_ = facts, reference
        predictor._load_parts(saved, features)
        return predictor

    def _load_parts(self, saved: ModelFolder, features: FeatureEncoder) -> None:
        preparation = Preparation(self.settings)
        preparation.features_ = features
        preparation.identities_ = self.facts_.identities
        preparation.content_ = ContentEncoders.load(saved.path("encoders"))
        preparation.picture_phrases_ = None
        if f"{_PICTURE_PHRASES}.safetensors" in saved.manifest["files"]:
            probe = PicturePhrases.from_tensors(saved.tensors(_PICTURE_PHRASES))
            preparation.picture_phrases_ = probe
        preparation.clicks_ = None
        if (saved.folder / "clicks").is_dir():
            preparation.clicks_ = NextClick.load(saved.path("clicks"), self.settings)
        self.preparation_ = preparation
        self.panel_ = Panel.load(saved, self.settings)
