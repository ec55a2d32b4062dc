"""Bytes of unsent answers: counted per connection and in all, and given back."""

import pytest

from server.errors import OverloadedError
from server.transport.unsent import UnsentAnswers

KIB = 1024


def test_a_connection_has_its_share() -> None:
    unsent = UnsentAnswers(100 * KIB, 300 * KIB)
    assert unsent.add("a", 60 * KIB) == 60 * KIB
    with pytest.raises(OverloadedError, match="61440 bytes of answers to this connection are not sent yet"):
        unsent.add("a", 60 * KIB)
    assert unsent.add("b", 60 * KIB)
    unsent.remove("a", 60 * KIB)
    assert unsent.add("a", 60 * KIB)


def test_all_of_them_have_a_limit() -> None:
    unsent = UnsentAnswers(100 * KIB, 150 * KIB)
    unsent.add("a", 90 * KIB)
    with pytest.raises(OverloadedError, match="at most 153600"):
        unsent.add("b", 90 * KIB)
    unsent.remove("a", 90 * KIB)
    assert unsent.add("b", 90 * KIB)


def test_one_answer_is_admitted_however_large() -> None:
    unsent = UnsentAnswers(1, 1)
    assert unsent.add("a", 90 * KIB)


def test_calls_of_a_connection_that_reads_nothing_are_refused() -> None:
    unsent = UnsentAnswers(50 * KIB, 300 * KIB)
    unsent.check("a")
    unsent.add("a", 60 * KIB)
    with pytest.raises(OverloadedError):
        unsent.check("a")
    unsent.check("b")


def test_who_holds_most_is_ended_for_others() -> None:
    ended: list[str] = []
    unsent = UnsentAnswers(200 * KIB, 300 * KIB, lambda peer: not ended.append(peer))
    unsent.add("a", 100 * KIB)
    unsent.add("b", 190 * KIB)
    with pytest.raises(OverloadedError):
        unsent.add("b", 15 * KIB)
    assert unsent.add("c", 90 * KIB)
    assert ended == ["b"]
    assert unsent.add("c", 90 * KIB)
    assert ended == ["b", "a"]
