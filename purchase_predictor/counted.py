"""Counts that choose the right form of the noun after them."""


class Counted(int):
    """A number that is written with its noun, in f-strings and in patterns of `str.format`.

    The format gives the noun for one and for several, divided by a bar. A language without
    plurals leaves it out and has the number alone. The patterns of a report thereby stay whole
    sentences, and no caller needs to know which of their nouns follow a number.

    >>> f"{Counted(1):market|markets} of {Counted(1200):row|rows}"
    '1 market of 1,200 rows'
    >>> "시장 {n}개".format(n=Counted(2))
    '시장 2개'
    """

    def __format__(self, spec: str) -> str:
        one, divided, several = spec.partition("|")
        if not divided:
            return format(int(self), spec or ",")
        return f"{int(self):,} {one if self == 1 else several}"
