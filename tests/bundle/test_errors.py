from bundle.errors import BundleError


def test_a_reason_is_one_short_line_of_printable_characters() -> None:
    hostile = "a\nb\x1b[31m\ud800 é" + "x" * 5_000_000 + ": copy the version again"
    text = str(BundleError(hostile))
    assert text.startswith("a b\\x1b[31m\\ud800 éx")
    assert text.endswith("xxx: copy the version again")
    assert len(text) < 700
    assert str(BundleError("short")) == "short"
