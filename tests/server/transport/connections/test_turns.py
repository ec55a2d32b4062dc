"""Turns of callers: round robin, and those who cost time after the others."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.transport.connections.turns import Turns


@pytest.fixture
def turns() -> Iterator[Turns]:
    with ExitStack() as stack:
        turns = Turns()
        for caller in "aaabbc":
            turns.add(caller, stack.enter_context(socket.socket()))
        yield turns


def order(turns: Turns) -> str:
    taken = ""
    while turns:
        taken += turns.next()
        turns.take(taken[-1])
    return taken


def test_callers_take_turns(turns: Turns) -> None:
    assert (len(turns), turns.of("a"), turns.of("x")) == (6, 3, 0)
    assert order(turns) == "abcaba"


def test_callers_with_a_charge_come_last_and_the_smallest_first(turns: Turns) -> None:
    turns.add_charge({"a": 3, "b": 1, "c": 0}, 4.0)
    assert (turns.charge("a"), turns.charge("b"), turns.charge("c")) == (3, 1, 0)
    assert not turns.all_charged()
    assert order(turns) == "cbbaaa"
    assert turns.all_charged()


def test_charges_are_forgotten(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    turns.add_charge({"a": 1}, 1.0)
    monkeypatch.setattr("server.transport.connections.turns._CHARGED_SECONDS", 0.0)
    turns.add_charge({"b": 1}, 1.0)
    assert (turns.charge("a"), turns.charge("b")) == (0, 1)
    turns.add_charge({"c": 1, "a": 999}, 0.9)
    # One call among a thousand costs nothing.
    assert (turns.charge("b"), turns.charge("c")) == (0, 0)
