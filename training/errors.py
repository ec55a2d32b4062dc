"""What can go wrong in training; each message says what was expected, what was got, and what to do."""


class TrainingError(Exception):
    """A run that cannot go on, such as a loss that is no longer finite."""


class InputError(TrainingError):
    """Something that the user gave is unusable."""


class ConfigError(InputError):
    """A recipe or a setting is wrong."""


class DataError(InputError):
    """Data are missing, damaged or unfit."""


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, of another format, or of another run."""


class StoppedError(TrainingError):
    """A run was asked to stop; it is saved where it was and can be resumed."""
