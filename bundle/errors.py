"""Errors of bundles on disk."""


class BundleError(Exception):
    """A bundle, or a file of one, is not what it claims to be; the text says what was expected and what was found."""
