"""Generated bad inputs of scoring: data folders, files, pictures and model folders gone wrong."""

import io
import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

TABLES = ("products", "events", "impressions")
FLOAT_MAX = 1.7e308


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        group: of the report.
        name: what is wrong.
        spoil: changes a copy of the data folder and of the model folder.
        storage: `parquet` or `csv`.
    """

    group: str
    name: str
    spoil: Callable[[Path, Path], None]
    storage: str = "parquet"


def every_case(data: Path, model: Path, seed: int = 0) -> Iterator[Case]:
    """All cases, in a fixed order.

    Args:
        data: a good data folder of Parquet files.
        model: a good model folder.
        seed: of damaged places.
    """
    yield from columns(data)
    yield from files(seed)
    yield from pictures()
    yield from model_folders(model, seed)


# ---- columns: every column x every harm


def _some(value: Any, dtype: Any = None) -> Callable[[str], pl.Expr]:
    """Every third row holds the value; the column keeps its type, or takes one that can."""

    def changed(name: str) -> pl.Expr:
        third = pl.int_range(pl.len()) % 3 == 0
        column = pl.col(name) if dtype is None else pl.col(name).cast(dtype, strict=False)
        return pl.when(third).then(pl.lit(value, dtype)).otherwise(column).alias(name)

    return changed


HARMS: dict[str, Callable[[str], pl.Expr]] = {
    "null in some rows": _some(None),
    "null in every row": lambda name: pl.lit(None).alias(name),
    "empty text": _some("", pl.String),
    "blank text": _some("  \t", pl.String),
    "text where something else stood": _some("spam", pl.String),
    "control characters": _some("\x00\x1b[31m\u202e\r\n", pl.String),
    "unseen value": _some("never seen \U0001f9ff", pl.String),
    "a text of a million letters": _some("x" * 1_000_000, pl.String),
    "NaN": _some(float("nan"), pl.Float64),
    "infinity": _some(float("inf"), pl.Float64),
    "minus infinity": _some(float("-inf"), pl.Float64),
    "negative": _some(-1.0, pl.Float64),
    "the largest float": _some(FLOAT_MAX, pl.Float64),
    "the largest integer": _some(2**63 - 1, pl.Int64),
    "one value in every row": lambda name: pl.col(name).first().alias(name),
    "flags": lambda name: (pl.int_range(pl.len()) % 2 == 0).alias(name),
    "lists": lambda name: pl.concat_list(pl.col(name)).alias(name),
    "structs": lambda name: pl.struct(pl.col(name)).alias(name),
    "bytes": lambda name: pl.lit(b"\xff\x00").alias(name),
    "dates": lambda name: pl.lit("1969-07-20").str.to_date().alias(name),
    "times without a zone": lambda name: pl.lit("2024-01-01").str.to_datetime().alias(name),
    "the year 9999": lambda name: pl.lit("9999-12-31T23:59:59.999999Z").alias(name),
    "before 1970": lambda name: pl.lit("0001-01-01T00:00:00Z").alias(name),
}
NESTED = {"lists", "structs", "bytes"}
"""What CSV cannot hold."""


def columns(data: Path) -> Iterator[Case]:
    """Each column of each table under each harm, absent, and written in capitals."""
    for table in TABLES:
        for column in pl.read_parquet_schema(data / f"{table}.parquet"):
            for harm, change in HARMS.items():
                yield Case(f"{table}: {harm}", column, _column(table, change(column)))
            yield Case(f"{table}: no such column", column, _without(table, column))
    for column in pl.read_parquet_schema(data / "impressions.parquet"):
        for harm in sorted(HARMS.keys() - NESTED):
            spoil = _column("impressions", HARMS[harm](column))
            yield Case(f"impressions (CSV): {harm}", column, spoil, "csv")


def _column(table: str, change: pl.Expr) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        file = data / f"{table}.parquet"
        pl.read_parquet(file).with_columns(change).write_parquet(file)

    return spoil


def _without(table: str, column: str) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        file = data / f"{table}.parquet"
        pl.read_parquet(file).drop(column).write_parquet(file)

    return spoil


# ---- files


def files(seed: int) -> Iterator[Case]:
    """Files of tables that are cut off, damaged, missing, or something else."""
    draw = random.Random(seed)
    for table in TABLES:
        for share in (0.0, 0.01, 0.3, 0.7, 0.99):
            yield Case("truncated Parquet", f"{table} at {share:.0%}", _cut(table, share))
        for number in range(20):
            place = draw.random()
            yield Case(
                "damaged Parquet", f"{table}, byte {number}", _flip(table, place, draw.random())
            )
        yield Case("not Parquet", f"{table} is text", _bytes(table, b"hello, world\n1,2\n"))
        yield Case("not Parquet", f"{table} is zeros", _bytes(table, bytes(4096)))
        yield Case("no such table", table, _removed(table))
        yield Case("no rows", table, _empty(table))
        yield Case("a folder without files", table, _folder(table))
        yield Case("two of one table", table, _twice(table))
        for name, content in TEXTS.items():
            yield Case("malformed CSV", f"{table}: {name}", _text(table, content))
    yield Case("rows repeated", "every impression twice", _repeated)
    yield Case("links", "impressions links to itself", _circular)


TEXTS = {
    "empty": b"",
    "header alone": b"impression_id,session_id,timestamp,market\n",
    "not UTF-8": b"impression_id,session_id\n\xff\xfe\xfa,\x80\n",
    "UTF-16": "impression_id,session_id\na,b\n".encode("utf-16"),
    "too many fields": b"impression_id,session_id\na,b,c,d\n",
    "an open quotation mark": b'impression_id,session_id\n"a,b\nc,d\n',
    "two columns of one name": b"session_id,session_id\na,b\n",
    "semicolons": b"impression_id;session_id\na;b\n",
    "a field of a million letters": b"impression_id,session_id\n" + b"a" * 1_000_000 + b",b\n",
    "null bytes": b"impression_id,session_id\n\x00\x00,\x00\n",
}


def _cut(table: str, share: float) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        file = data / f"{table}.parquet"
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])

    return spoil


def _flip(table: str, place: float, value: float) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        file = data / f"{table}.parquet"
        content = bytearray(file.read_bytes())
        content[int(place * len(content))] ^= 1 + int(value * 255)
        file.write_bytes(content)

    return spoil


def _bytes(table: str, content: bytes) -> Callable[[Path, Path], None]:
    return lambda data, _: (data / f"{table}.parquet").write_bytes(content) and None


def _removed(table: str) -> Callable[[Path, Path], None]:
    return lambda data, _: (data / f"{table}.parquet").unlink()


def _empty(table: str) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        file = data / f"{table}.parquet"
        pl.read_parquet(file).clear().write_parquet(file)

    return spoil


def _folder(table: str) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        (data / f"{table}.parquet").unlink()
        (data / table).mkdir()

    return spoil


def _twice(table: str) -> Callable[[Path, Path], None]:
    return lambda data, _: (data / f"{table}.csv").write_text("a\n1\n") and None


def _text(table: str, content: bytes) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        (data / f"{table}.parquet").unlink()
        (data / f"{table}.csv").write_bytes(content)

    return spoil


def _repeated(data: Path, _: Path) -> None:
    file = data / "impressions.parquet"
    rows = pl.read_parquet(file)
    pl.concat([rows, rows]).write_parquet(file)


def _circular(data: Path, _: Path) -> None:
    file = data / "impressions.parquet"
    file.unlink()
    file.symlink_to(file.name)


# ---- pictures


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels, some kilobytes large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pictures() -> Iterator[Case]:
    """Picture files and paths that must not be followed or decoded."""
    contents: dict[str, Callable[[], bytes]] = {
        "a bomb of 400 megapixels": lambda: bomb(20_000),
        "no bytes": lambda: b"",
        "text": lambda: b"GIF89a is not allowed either",
        "half a picture": lambda: bomb(64)[:60],
        "a header alone": lambda: b"\x89PNG\r\n\x1a\n",
        "a file of 60 megabytes": lambda: bytes(60 * 2**20),
    }
    for name, make in contents.items():
        yield Case("pictures", name, _picture(make))
    paths = [
        "../outside.png", "/etc/passwd", "C:\\secret.png", "images/../../outside.png", "..\\x.png",
        "images", "",
        "nul\x00.png", "images/" + "x" * 5000, "link.png", "loop.png", "//host/x.png",
    ]  # fmt: skip
    for path in paths:
        yield Case("picture paths", ascii(path)[:40], _picture_path(path))


def _picture(make: Callable[[], bytes]) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        (data / "bad.png").write_bytes(make())
        _picture_path("bad.png")(data, _)

    return spoil


def _picture_path(path: str) -> Callable[[Path, Path], None]:
    def spoil(data: Path, _: Path) -> None:
        (data.parent / "outside.png").write_bytes(bomb(8))
        (data / "link.png").symlink_to(data.parent / "outside.png")
        (data / "loop.png").symlink_to("loop.png")
        file = data / "products.parquet"
        pl.read_parquet(file).with_columns(image=pl.lit(path)).write_parquet(file)

    return spoil


# ---- model folders


def model_folders(model: Path, seed: int) -> Iterator[Case]:
    """Every file of a model folder changed, cut off, gone, or under another's checksum."""
    draw = random.Random(seed)
    names = sorted(p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file())
    for name in names:
        yield Case("model folder: a byte changed", name, _model_flip(name, draw.random()))
        yield Case("model folder: a file cut off", name, _model_cut(name))
        yield Case("model folder: a file gone", name, _model_gone(name))
    others = [name for name in names if name != "manifest.json"]
    for name in others:
        other = draw.choice([other for other in others if other != name])
        yield Case("model folder: two checksums swapped", name, _model_swapped(name, other))
    for name, change in MANIFESTS.items():
        yield Case("model folder: manifest", name, _manifest(change))
    yield Case("model folder: a file more", "pickle.pkl", _model_more)
    yield Case("model folder: a link out", "settings.json", _model_link)
    yield Case("model folder: a link to nothing", "settings.json", _model_dangling)


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda m: {**m, "format": "zip"},
    "a later version": lambda m: {**m, "format_version": 99},
    "no version": lambda m: {k: v for k, v in m.items() if k != "format_version"},
    "no files": lambda m: {k: v for k, v in m.items() if k != "files"},
    "files are a list": lambda m: {**m, "files": [*m["files"]]},
    "a list": lambda m: [m],
    "null": lambda _: None,
    "path escape": lambda m: {**m, "files": {**m["files"], "../outside.png": {"size": 1}}},
    "absolute path": lambda m: {**m, "files": {**m["files"], "/etc/passwd": {"size": 1}}},
    "empty files": lambda m: {**m, "files": {}},
}


def _model_flip(name: str, place: float) -> Callable[[Path, Path], None]:
    def spoil(_: Path, model: Path) -> None:
        content = bytearray((model / name).read_bytes())
        content[int(place * len(content))] ^= 0xFF
        (model / name).write_bytes(content)

    return spoil


def _model_cut(name: str) -> Callable[[Path, Path], None]:
    def spoil(_: Path, model: Path) -> None:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: len(content) // 2])

    return spoil


def _model_gone(name: str) -> Callable[[Path, Path], None]:
    return lambda _, model: (model / name).unlink()


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    def spoil(_: Path, model: Path) -> None:
        file = model / "manifest.json"
        file.write_text(json.dumps(change(json.loads(file.read_text()))))

    return spoil


def _model_swapped(one: str, other: str) -> Callable[[Path, Path], None]:
    def swapped(manifest: dict[str, Any]) -> dict[str, Any]:
        found = manifest["files"]
        found[one], found[other] = found[other], found[one]
        return manifest

    return _manifest(swapped)


def _model_more(_: Path, model: Path) -> None:
    (model / "pickle.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


def _model_link(_: Path, model: Path) -> None:
    outside = model.parent / "outside.json"
    shutil.move(model / "settings.json", outside)
    (model / "settings.json").symlink_to(outside.resolve())


def _model_dangling(_: Path, model: Path) -> None:
    (model / "settings.json").unlink()
    (model / "settings.json").symlink_to("elsewhere.json")


def as_csv(data: Path) -> None:
    """Write the impressions of a folder as CSV instead."""
    file = data / "impressions.parquet"
    rows = pl.read_parquet(file)
    file.unlink()
    text = io.BytesIO()
    rows.write_csv(text, datetime_format="%Y-%m-%dT%H:%M:%S%.6f+00:00")
    (data / "impressions.csv").write_bytes(text.getvalue())
