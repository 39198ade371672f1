"""Every error that a user of the package may see."""

from features.errors import DataError, UserError, nearest

__all__ = ["DataError", "ModelFolderError", "SettingsError", "UserError", "nearest"]


class SettingsError(UserError):
    """A setting is unknown or has a value that cannot be."""


class ModelFolderError(UserError):
    """A model folder is missing, incomplete, changed or of another format version."""
