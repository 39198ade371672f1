"""Every error that a user of the package may see."""

from features.errors import DataError, UserError, market_key, nearest, nearest_market

__all__ = [
    "ClusterError", "DataError", "ModelFolderError", "SettingsError", "TrackingError", "UserError",
    "market_key", "nearest", "nearest_market",
]  # fmt: skip


class SettingsError(UserError):
    """A setting is unknown or has a value that cannot be."""


class ModelFolderError(UserError):
    """A model folder is missing, incomplete, changed or of another format version."""


class TrackingError(UserError):
    """The tracking server cannot be reached, refuses or has lost what is asked for."""


class ClusterError(UserError):
    """The cluster cannot be reached, is too small or has lost its workers."""
