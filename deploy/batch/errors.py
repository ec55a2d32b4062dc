"""What a job refuses to start with, or could not finish."""


class InputError(Exception):
    """An option, a bundle, an input or an output that cannot be used; one sentence."""


class JobError(Exception):
    """The job ended early; started again, it goes on."""
