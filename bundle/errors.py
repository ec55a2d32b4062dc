"""Errors of bundles on disk, and of image files."""

# Readiness, the index, logs and metrics of a server repeat the text; a sentence and a path fit.
_LONGEST = 600
_END = 200


class BundleError(Exception):
    """A bundle, or a file of one, is not what it claims to be; the text says what was expected and what was found.

    The text may quote the file, whose author is not trusted: it is one line of printable characters, and its middle is
    left out where it is long.
    """

    def __init__(self, text: str) -> None:
        super().__init__(quotable(text))


def quotable(text: str) -> str:
    """One line of at most some 600 printable characters; of longer text the beginning and the end."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - _END]} […] {text[-_END:]}"
    return printable(" ".join(text.splitlines()))


def printable(text: str) -> str:
    """Text with control and other unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class ImageFileError(Exception):
    """An image file cannot be read; the text says what was expected and what was found."""
