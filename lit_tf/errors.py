"""One exception type per kind of fault, so that callers can tell them apart."""


class LitError(Exception):
    """Base of every error that this package raises on purpose."""


class CheckpointError(LitError):
    """A checkpoint cannot be read, or is not what its layout promises."""


class ConfigError(LitError):
    """A configuration names something unknown or impossible."""


class TokenizerError(LitError):
    """A vocabulary or a text cannot be used."""


class ImageError(LitError):
    """An image cannot be read or has no usable shape."""


class DownloadError(LitError):
    """A published file could not be fetched."""


class DataError(LitError):
    """A dataset is missing, malformed, or more of it is bad than was allowed."""


class ExportError(LitError):
    """An exported artefact could not be written or does not agree with its model."""


class TrainingError(LitError):
    """A training run cannot start or cannot go on."""
