"""Pretrained weights from the Hugging Face hub: safetensors and JSON only, nothing that runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from purchase_predictor.errors import UserError


def fetch(
    repository: str,
    revision: str | None,
    files: Sequence[str],
    *,
    remedy: str,
    progress: Callable[[str], None],
) -> Path:
    """Fetch a repository's files, or find them where they were fetched before.

    Args:
        repository: `owner/name` or `name` on the hub.
        revision: branch, tag or commit; None takes the newest.
        files: patterns of the files wanted.
        remedy: what the user can do without the hub, the end of a sentence.
        progress: takes a line that names the commit.

    Returns:
        A folder with the files.

    Raises:
        UserError: if the hub is out of reach or has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{repository}' cannot be fetched from the model hub (no connection, or no such "
            f"repository): {remedy}."
        ) from error
    progress(f"pretrained weights: {repository} at commit {folder.name}")
    return folder
