"""Folder <-> state: safetensors, JSON and text files under a manifest that commits them.

A folder is written beside its place and renamed into it, so that a killed run never leaves a half
folder that is taken for whole. There is no pickle anywhere: a folder cannot run code.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from purchase_predictor.errors import ModelFolderError

FORMAT = "purchase-predictor folder"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LIBRARIES = (
    "lightgbm", "numpy", "polars", "pytorch-tabnet", "safetensors", "scikit-learn", "timm",
    "tokenizers", "torch", "transformers",
)  # fmt: skip


@dataclass(frozen=True)
class ModelFolder:
    """A folder whose files are what its manifest says.

    Attributes:
        folder: where it lies.
        manifest: format version, library versions, metadata, size and SHA-256 of each file.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the writer noted about the making."""
        return self.manifest["metadata"]

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `NAME.safetensors`.

        Raises:
            ModelFolderError: there is no such file, or it holds no tensors.
        """
        path = self.path(f"{name}.safetensors")
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelFolderError(f"{path} is not a safetensors file: {error}") from error

    def document(self, name: str) -> dict[str, Any]:
        """The keys and values of `NAME.json`.

        Raises:
            ModelFolderError: there is no such file.
        """
        return json.loads(self.path(f"{name}.json").read_text("utf-8"))

    def text(self, name: str) -> str:
        """The text of the file `name`, line ends as they were.

        Raises:
            ModelFolderError: there is no such file.
        """
        return self.path(name).read_bytes().decode("utf-8")

    def path(self, name: str) -> Path:
        """Where the file or subfolder `name` lies.

        Raises:
            ModelFolderError: the folder has no such part.
        """
        if not any(file == name or file.startswith(f"{name}/") for file in self.manifest["files"]):
            raise ModelFolderError(f"{self.folder} has no part '{name}'")
        return self.folder / name


def write_folder(
    folder: Path,
    *,
    tensors: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    texts: Mapping[str, str] | None = None,
    folders: Mapping[str, Callable[[Path], None]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder so that it is seen whole or not at all; one that was there is replaced.

    Args:
        folder: where it shall lie; its parents are made.
        tensors: arrays by name for each `NAME.safetensors`.
        documents: keys and values of each `NAME.json`, without NaN or infinity.
        texts: text of each file, by file name.
        folders: writers of subfolders, by name; each gets an empty folder that exists.
        metadata: what to note in the manifest about the making.

    Raises:
        ModelFolderError: the place is taken by something that this function did not write.
        OSError: the disk is full or may not be written; what was there before stays.
    """
    folder = folder.resolve()  # where a link points, not the link
    partial, aside = _partial(folder), _aside(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(folder)
    _remove(partial)
    partial.mkdir()
    try:
        for name, arrays in (tensors or {}).items():
            # order="C" and not ascontiguousarray, which turns a scalar into a vector
            whole = {key: np.asarray(array, order="C") for key, array in arrays.items()}
            (partial / f"{name}.safetensors").write_bytes(save(whole))
        for name, document in (documents or {}).items():
            text = json.dumps(document, ensure_ascii=False, allow_nan=False)
            (partial / f"{name}.json").write_bytes(text.encode("utf-8"))
        for name, text in (texts or {}).items():
            (partial / name).write_bytes(text.encode("utf-8"))
        for name, write in (folders or {}).items():
            (partial / name).mkdir()
            write(partial / name)
        _write_manifest(partial, dict(metadata or {}))
        _flush(partial)
        if folder.exists():
            _remove(aside)
            folder.rename(aside)
        partial.rename(folder)
    finally:
        _remove(partial)
    sync(folder.parent)
    _remove(aside)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write one file so that it is seen whole or not at all.

    Args:
        path: where it shall lie; its parents are made.
        write: writes the file whose path it gets.

    Raises:
        OSError: the disk is full or may not be written; what was there before stays.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(partial)
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all; what JSON has no number for becomes null.

    Args:
        path: where it shall lie.
        content: mappings, lists, text, numbers; keys become text.
    """
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _finite(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {str(key): _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return None
    return values


def has_folder(folder: Path) -> bool:
    """Whether `read_folder` finds a folder there (complete or not is for it to say)."""
    return _present(folder.resolve()).exists()


def read_folder(folder: Path) -> ModelFolder:
    """Check a folder against its manifest.

    Args:
        folder: as given to `write_folder`, or moved since.

    Raises:
        ModelFolderError: it is missing, of a newer format, or a file is missing, changed or more
            than was written.
    """
    place = _present(folder.resolve())
    if not place.is_dir():
        raise ModelFolderError(f"there is no model folder {folder}")
    manifest = _read_manifest(place, folder)
    written, found = manifest["files"], _files(place)
    for name in sorted(written.keys() - found.keys()):
        raise ModelFolderError(f"model folder {folder} is incomplete: {name} is missing")
    for name in sorted(found.keys() - written.keys()):
        raise ModelFolderError(f"model folder {folder} holds {name}, which was not saved with it")
    for name, expected in written.items():
        if not found[name].is_file():  # to open a pipe would wait for ever
            raise ModelFolderError(f"{name} in model folder {folder} is not a file")
        if _fingerprint(found[name]) != expected:
            raise ModelFolderError(
                f"{name} in model folder {folder} is not the file that was saved: "
                "its size or SHA-256 differs from the manifest"
            )
    return ModelFolder(place, manifest)


def no_manifest(folder: Path) -> str:
    """What is said of a folder without a manifest: a run's folder holds its model's."""
    meant = f"; did you mean {folder / 'model'}?" if has_folder(folder / "model") else ""
    return f"{folder} is not a model folder: it has no {MANIFEST}{meant}"


def _read_manifest(place: Path, shown: Path) -> dict[str, Any]:
    if not (place / MANIFEST).is_file():  # to read a pipe would wait for ever
        raise ModelFolderError(no_manifest(shown))
    try:
        manifest = json.loads((place / MANIFEST).read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{MANIFEST} of model folder {shown} cannot be read") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFolderError(f"{shown} is not a model folder: its {MANIFEST} is of another kind")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        made = manifest.get("versions", {}).get("purchase-predictor", "another version")
        raise ModelFolderError(
            f"model folder {shown} has format {version}, written by purchase-predictor {made}; "
            f"this version reads format {FORMAT_VERSION}: install that version"
        )
    if not isinstance(manifest.get("files"), dict):
        raise ModelFolderError(f"{MANIFEST} of model folder {shown} does not list its files")
    return manifest


def _write_manifest(folder: Path, metadata: dict[str, Any]) -> None:
    from purchase_predictor import __version__

    versions = {"purchase-predictor": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = distributions.version(library)
        except distributions.PackageNotFoundError:
            continue
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "metadata": metadata,
        "files": {name: _fingerprint(path) for name, path in sorted(_files(folder).items())},
    }
    text = json.dumps(manifest, ensure_ascii=False, allow_nan=False, indent=2)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


def _files(folder: Path) -> dict[str, Path]:
    """Files by path inside the folder, but for the manifest and what file managers leave."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if not path.is_dir() and not path.name.startswith(".") and path != folder / MANIFEST
    }


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": file.tell(), "sha256": digest}


def _refuse_foreign(folder: Path) -> None:
    """A folder is replaced only where everything in it came from here."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is a file: a model folder cannot be written there")
    found = _files(folder)
    if not found and not (folder / MANIFEST).exists():
        return
    try:
        known = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        known = {}
    ours = isinstance(known, dict) and known.get("format") == FORMAT
    foreign = found.keys() - known["files"].keys() if ours else found.keys() or {MANIFEST}
    if foreign:
        raise ModelFolderError(
            f"{folder} holds {min(foreign)}, which is not part of a model folder: "
            "nothing was replaced, name another place"
        )


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _present(folder: Path) -> Path:
    """The folder, or its predecessor where a run was killed between the two renames."""
    return _aside(folder) if not folder.exists() and _aside(folder).exists() else folder


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _flush(folder: Path) -> None:
    """Bring files and then folders to the disk, so that the rename cannot outrun them."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
