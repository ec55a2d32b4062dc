"""Errors of bundles on disk, and of image files."""


class BundleError(Exception):
    """A bundle, or a file of one, is not what it claims to be; the text says what was expected and what was found."""


class ImageFileError(Exception):
    """An image file cannot be read; the text says what was expected and what was found."""
