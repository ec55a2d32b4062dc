"""What a job refuses to start with, or could not finish."""

from bundle.errors import quotable


class InputError(Exception):
    """An option, a bundle, an input or an output that cannot be used; one line, whatever names are in it."""

    def __init__(self, text: str, place: str = "") -> None:
        """Make the sentence, with the place before it.

        Args:
            text: what was expected, what came, what to do.
            place: of the file that it is about.
        """
        super().__init__(quotable(f"{place}: {text}" if place else text))
        self.text = quotable(text)


class JobError(Exception):
    """The job ended early; started again, it goes on."""
