"""What can go wrong in training; each message says what was expected, what was got, and what to do."""

import reprlib

_LONGEST = 300


class _ShortRepr(reprlib.Repr):
    """Of values from a file, however long or deep; Python itself prints no integer of more than 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:
        """As usual for a short one."""
        return super().repr_int(x, level) if x.bit_length() <= _LONGEST else f"an integer of {x.bit_length()} bits"


short_repr = _ShortRepr().repr


class TrainingError(Exception):
    """A run that cannot go on, such as a loss that is no longer finite."""


class InputError(TrainingError):
    """Something that the user gave is unusable."""


class ConfigError(InputError):
    """A recipe or a setting is wrong."""


class NetworkError(ConfigError):
    """A network of the user's own cannot be imported, or does something else than is expected of it."""


class DataError(InputError):
    """Data are missing, damaged or unfit."""


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, of another format, or of another run."""


class StoppedError(TrainingError):
    """A run was asked to stop; it is saved where it was and can be resumed."""


class UnavailableError(TrainingError):
    """A measure, a statistic or a picture cannot be had of this model or these data; the message is the reason."""


def one_line(said: object) -> str:
    """What another library or a file says, on one line and not longer than one reads."""
    text = " ".join(str(said).split()) or type(said).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
