"""The branch of errors that a user can mend: one clear sentence, no traceback."""

import difflib
from collections.abc import Iterable, Mapping
from unicodedata import normalize


class UserError(Exception):
    """Something the user can put right; the message is one sentence that says how."""


class DataError(UserError):
    """The data cannot be used as it is."""


ISO_CODES = {"UK": "GB", "EL": "GR"}
"""Of the two countries that the European Union writes otherwise than ISO 3166."""


def market_key(market: str) -> str:
    """What is the same for all spellings of a market's name.

    Alike but for case, spaces at the ends, the form of their letters (Unicode has two of "서울"),
    or UK and GB, EL and GR.
    """
    code = normalize("NFKC", market).strip().upper()
    return ISO_CODES.get(code, code)


def nearest(name: str, known: Iterable[str], *, shown: Mapping[str, str] | None = None) -> str:
    """A hint to append to a message about an unknown name.

    Args:
        name: what was given.
        known: the names that exist.
        shown: what stands for a known name in the hint, if not the name.

    Returns:
        `"; did you mean 'x'?"`, or `""` where nothing known is near.
    """
    spelled = {spelling.casefold(): spelling for spelling in known}
    matches = difflib.get_close_matches(name.casefold(), spelled, n=1, cutoff=0.5)
    if not matches:
        return ""
    match = spelled[matches[0]]
    return f"; did you mean '{match if shown is None else shown[match]}'?"


def nearest_market(market: str, known: Iterable[str]) -> str:
    """Likewise for an unknown market, whichever of its two codes is known: `UK` is `GB`.

    Args:
        market: what was given.
        known: the markets that exist.

    Returns:
        As of `nearest`.
    """
    spelled = {spelling.casefold(): spelling for spelling in known}
    both_ways = ISO_CODES | {iso: other for other, iso in ISO_CODES.items()}
    other = both_ways.get(market.upper(), "").casefold()
    if len(market) > len("KR"):
        return nearest(market, spelled.values())
    # of two letters one that is alike is another country
    same = spelled.get(market.casefold()) or spelled.get(other)
    return f"; did you mean '{same}'?" if same else ""
