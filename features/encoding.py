"""From checked tables to an `EncodedMarket`: vocabularies and statistics, fitted once.

Everything fitted comes from training rows and training events alone; the fitted state is JSON and
travels with the model.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.aggregates import Behaviour, add_aggregates
from features.arrays import (
    LEFT_OUT,
    MISSING,
    N_RESERVED,
    TEST,
    TRAIN,
    UNSEEN,
    EncodedMarket,
    EventArrays,
    ProductArrays,
)
from features.clickstream import Clickstream, build_clickstream
from features.columns import ColumnSet, Lists, floats
from features.context import Kind
from features.culture import Profiles, check_further, standardise
from features.lists import (
    Offers,
    add_list_place,
    add_list_terms,
    add_list_touches,
    add_shown_before,
    add_terms,
)
from features.popularity import Popularity, add_popularity
from features.prices import PriceLevels, add_price_taste
from features.products import Phrases, product_arrays
from features.schema import Tables
from features.splits import Split, event_parts
from features.storage import IN_MEMORY, ArrayStore
from features.vocabulary import Vocabulary

FORMAT = 5

MAX_TYPES = 12
"""Event types that get counts of their own; the commonest in training."""

_DAY = 86_400 * 10**6


@dataclass(frozen=True)
class FeatureEncoder:
    """Turns tables into arrays, the same way in training and in scoring.

    Attributes:
        history_: events in a chunk (see `EncodedMarket`).
        vocabularies_: `market`, `event_type`, `touch_type` (event types that touch a product),
            `identity`, `category`, `brand` and one for each category column of the context, as
            `context: NAME`.
        context_: what each context column holds.
        popularity_: counts of the training period.
        prices_: usual prices of the training period.
        profiles_: cultural dimensions of markets, as published.
        phrases_: what titles are searched for.
        further_profiles_: those of markets that came after training.
    """

    history_: int
    vocabularies_: dict[str, Vocabulary]
    context_: dict[str, Kind]
    popularity_: Popularity
    prices_: PriceLevels
    profiles_: Profiles
    phrases_: Phrases
    further_profiles_: Profiles = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        tables: Tables,
        split: Split,
        *,
        history: int,
        min_identity_count: int,
        profiles: Profiles,
        phrases: Phrases,
    ) -> Self:
        """Learn vocabularies and statistics from the training rows.

        Args:
            tables: checked tables, all parts of them.
            split: which rows are training rows.
            history: events in a chunk (see `EncodedMarket`).
            min_identity_count: a product, brand or category that training rows and events hold
                less often shares the code UNSEEN with the other rare ones, likewise a context
                value of fewer training sessions.
            profiles: of `load_profiles`.
            phrases: of `load_phrases`.
        """
        shown = tables.impressions.filter(pl.Series(split.part == TRAIN))
        events = tables.events.filter(pl.Series(event_parts(tables, split) == TRAIN))
        touched = pl.concat([shown.select("product_id"), events.select("product_id")])
        kinds = tables.products.select("product_id", "category", "brand")  # no titles: one a touch
        attributes = touched.join(kinds, on="product_id")
        touches = events.join(kinds, on="product_id", how="semi")
        vocabularies = {
            "market": Vocabulary.fit(shown["market"]),
            "event_type": Vocabulary.fit(events["event_type"]),
            "touch_type": Vocabulary.fit(touches["event_type"]),
            "identity": Vocabulary.fit(attributes["product_id"], min_count=min_identity_count),
            "category": Vocabulary.fit(attributes["category"], min_count=min_identity_count),
            "brand": Vocabulary.fit(attributes["brand"], min_count=min_identity_count),
        }
        vocabularies |= {
            _context_key(name): Vocabulary.fit(
                # rows of one session are one occasion: a list of 25 is not 25 sightings of a city
                shown.select("session_id", name).unique()[name],
                min_count=min_identity_count,
            )
            for name, kind in tables.context.items()
            if kind == "category"
        }
        return cls(
            history_=history,
            vocabularies_=vocabularies,
            context_=dict(tables.context),
            popularity_=Popularity.fit(shown, events, tables.products),
            prices_=PriceLevels.fit(shown, tables.products),
            profiles_=profiles,
            phrases_=phrases,
        )

    def transform(
        self,
        tables: Tables,
        split: Split | None,
        *,
        products: ProductArrays | None = None,
        store: ArrayStore = IN_MEMORY,
    ) -> EncodedMarket:
        """Encode tables.

        Args:
            tables: checked tables.
            split: where rows are training rows, their statistics are counted in time order; None
                in scoring, where every row is a TEST row.
            products: `catalogue` of the products where it is there already.
            store: where the matrices of rows lie.

        Returns:
            The arrays; words, texts and pictures of the products are not in them.
        """
        if products is None:
            products = self.catalogue(tables.products)
        places = tables.products.select("product_id").with_row_index("product", offset=1)
        stream = build_clickstream(tables, places, history=self.history_).stored(store)
        shown = store.table(tables.impressions[stream.shown.order])
        part = np.full(len(shown), TEST, np.int8)
        events_part = np.full(len(tables.events), LEFT_OUT, np.int8)
        if split is not None:
            part = split.part[stream.shown.order]
            events_part = event_parts(tables, split)
        events = self._events(tables, stream, events_part, shown)
        columns = ColumnSet(store=store)
        self._add_columns(columns, tables, stream, events, shown, part)
        return self._assemble(products, events, stream, shown, part, columns).stored()

    def catalogue(self, products: pl.DataFrame) -> ProductArrays:
        """The products as arrays; without words, texts and pictures."""
        arrays = product_arrays(products, self.vocabularies_, self.phrases_)
        usual = self.prices_.of_products(products).astype(np.float32)
        return replace(arrays, price_level=usual)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "format": FORMAT,
            "history": self.history_,
            "vocabularies": {name: v.to_dict() for name, v in self.vocabularies_.items()},
            "context": self.context_,
            "popularity": self.popularity_.to_dict(),
            "prices": self.prices_.to_dict(),
            "profiles": self.profiles_,
            "further_profiles": self.further_profiles_,
            "phrases": self.phrases_,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Undo `to_dict`.

        Raises:
            ValueError: if the format is another one.
        """
        if values["format"] != FORMAT:
            raise ValueError(f"expected feature format {FORMAT}, got {values['format']}")
        vocabularies = values["vocabularies"]
        return cls(
            history_=values["history"],
            vocabularies_={n: Vocabulary.from_dict(part) for n, part in vocabularies.items()},
            context_=values["context"],
            popularity_=Popularity.from_dict(values["popularity"]),
            prices_=PriceLevels.from_dict(values["prices"]),
            profiles_=values["profiles"],
            phrases_=values["phrases"],
            further_profiles_=values["further_profiles"],
        )

    def with_profiles(self, further: Profiles, name: str) -> Self:
        """The same encoder, told of markets that came after training.

        Markets that it has a profile of keep it: the model learned what these values mean.

        Args:
            further: of `load_profiles`.
            name: of their file.

        Raises:
            DataError: as `check_further`.
        """
        check_further(self.profiles_, further, name)
        return replace(self, further_profiles_={**self.further_profiles_, **further})

    def _counted(self, kind: str) -> tuple[tuple[int, str], ...]:
        """Event types that get counts of their own, with their codes."""
        names = self.vocabularies_[kind].values[:MAX_TYPES]
        codes = self.vocabularies_["event_type"].encode(pl.Series(names, dtype=pl.String))
        return tuple(zip(codes.tolist(), names, strict=True))

    def _events(
        self, tables: Tables, stream: Clickstream, part: NDArray[np.int8], shown: pl.DataFrame
    ) -> EventArrays:
        """The sorted events as arrays."""
        events = stream.events
        gap = np.diff(events.time, prepend=events.time[:1]) / 1e6
        opens = np.diff(events.unit, prepend=-1) != 0
        codes = self.vocabularies_["event_type"].encode(tables.events["event_type"])
        market = np.full(int(max(events.session.max(initial=-1), -1)) + 1, MISSING, np.int32)
        session, first = np.unique(stream.shown.session, return_index=True)
        inside = session < len(market)
        markets = self.vocabularies_["market"].encode(shown["market"])
        market[session[inside]] = markets[first[inside]]
        return EventArrays(
            product=events.product.astype(np.int32),
            event_type=codes[events.order],
            time=events.time / 1e6,
            log_gap=np.log1p(np.where(opens, 0.0, gap)).astype(np.float32),
            session=events.session.astype(np.int32),
            unit=events.unit.astype(np.int32),
            part=part[events.order],
            market=market[events.session],
            n_types=len(self.vocabularies_["event_type"]),
        )

    def _add_columns(
        self,
        columns: ColumnSet,
        tables: Tables,
        stream: Clickstream,
        events: EventArrays,
        shown: pl.DataFrame,
        part: NDArray[np.int8],
    ) -> None:
        """All number and category columns, in the order of the sorted impressions."""
        lists = Lists(stream.shown.list_number)
        offers = Offers.of(shown, lists, self.context_)
        behaviour = Behaviour(
            stream=stream,
            event_type=events.event_type.astype(np.int64),
            types=self._counted("event_type"),
            touch_types=self._counted("touch_type"),
            n_types=events.n_types,
            category=_attribute(tables.products["category"]),
            brand=_attribute(tables.products["brand"]),
            attributes=tuple(k for k in ("category", "brand") if k in self.popularity_.values),
        )
        add_terms(offers, columns)
        add_list_terms(offers, lists, columns)
        add_aggregates(behaviour, columns)
        add_price_taste(self.prices_, stream, offers, shown, tables.products, columns)
        add_list_touches(behaviour, offers, lists, columns)
        add_shown_before(behaviour, offers, lists, columns)
        seen = self.popularity_.seen(
            tables.products, stream, shown, part == TRAIN, events.part == TRAIN
        )
        add_popularity(self.popularity_, seen, lists, columns)
        add_list_place(offers, lists, columns)
        self._add_context(shown, stream.shown.time, columns)

    def _add_context(
        self, shown: pl.DataFrame, time: NDArray[np.int64], columns: ColumnSet
    ) -> None:
        """When it was shown, and the columns that the data add."""
        columns.number("hour_of_day", "context", "time", time % _DAY / (_DAY / 24))
        columns.number("day_of_week", "context", "time", (time // _DAY + 3) % 7)
        taken = {column.name for column in columns.number_columns + columns.category_columns}
        for name, kind in self.context_.items():
            label = f"{name} (given)" if name in taken else name
            if kind == "category":
                words = self.vocabularies_[_context_key(name)]
                codes = words.encode(shown[name])
                columns.category(label, "context", "context", codes, len(words))
            else:
                columns.number(label, "context", "context", floats(shown[name]))

    def _assemble(
        self,
        products: ProductArrays,
        events: EventArrays,
        stream: Clickstream,
        shown: pl.DataFrame,
        part: NDArray[np.int8],
        columns: ColumnSet,
    ) -> EncodedMarket:
        rows, n = stream.shown, len(shown)
        markets = self.vocabularies_["market"]
        dimensions, profiles = standardise(self.profiles_, self.further_profiles_)
        unknown = np.full(len(dimensions), np.nan, np.float32)
        market = markets.encode(shown["market"])
        distinct, which = np.unique(shown["market"].to_numpy().astype(str), return_inverse=True)
        by_label = np.array([profiles.get(label, unknown) for label in distinct])
        by_code = np.array([profiles.get(name, unknown) for name in markets.values])
        n_dimensions = len(dimensions)
        row_profile = by_label.reshape(len(by_label), n_dimensions)[which].astype(np.float32)
        profiled = np.full(len(shown), n_dimensions > 0)
        profiled &= ~np.isnan(row_profile).any(axis=1)
        reserved = np.full((N_RESERVED, n_dimensions), np.nan, np.float32)
        return EncodedMarket(
            products=products,
            events=events,
            sequence_start=stream.sequence_start,
            sequence_stop=stream.sequence_stop,
            sequence=rows.sequence.astype(np.int32),
            cut=rows.cut,
            time=rows.time / 1e6,
            session=rows.session.astype(np.int32),
            unit=rows.unit,
            unit_fold=stream.sequence_unit.astype(np.int32),
            list_number=rows.list_number.astype(np.int32),
            product=rows.product.astype(np.int32),
            market=market,
            profile=np.concatenate([reserved, by_code.reshape(len(by_code), n_dimensions)]).astype(
                np.float32
            ),
            row_profile=row_profile,
            numbers=columns.number_matrix(n),
            number_columns=tuple(columns.number_columns),
            categories=columns.category_matrix(n),
            category_columns=tuple(columns.category_columns),
            converted=floats(shown["converted"]).astype(np.float32),
            part=part,
            market_names=markets.names,
            # one object for each market, not for each row
            market_label=distinct.astype(object)[which],
            impression_id=shown["impression_id"].to_numpy().astype(object),
            row=shown["row"].to_numpy().astype(np.int64),
            flags=_flags(products, stream, shown, market, profiled),
            store=columns.store,
        )


def _flags(
    products: ProductArrays,
    stream: Clickstream,
    shown: pl.DataFrame,
    market: NDArray[np.int32],
    profiled: NDArray[np.bool_],
) -> dict[str, NDArray[np.bool_]]:
    """What was missing or unknown in each row.

    A profile is missed only where the market was never seen: elsewhere the market is known by
    what it did.
    """
    rows = stream.shown
    missing = shown["product_id"].is_null().to_numpy()
    return {
        "unseen_market": market == UNSEEN,
        "unknown_profile": (market == UNSEEN) & ~profiled,
        "missing_product": missing,
        "unknown_product": ~missing & (rows.product == 0),
        "unseen_product": products.identity[rows.product] == UNSEEN,
        "empty_history": rows.cut == stream.events.first[rows.unit],
        "missing_title": ~products.has_text[rows.product],
        "missing_image": ~products.has_image[rows.product],
        "missing_price": shown["price"].is_null().to_numpy(),
        "late_in_list": rows.late,
    }


def _attribute(values: pl.Series) -> NDArray[np.int64]:
    """Codes of all values of the catalogue, the missing product first; MISSING where null."""
    codes = values.rank("dense").cast(pl.Int64) + (N_RESERVED - 1)
    return np.append(MISSING, codes.fill_null(MISSING).to_numpy()).astype(np.int64)


def _context_key(name: str) -> str:
    return f"context: {name}"
