"""Lookup of the results of a run."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Rounds = Sequence[Mapping[str, float]]


class Results:
    """Contents of `results.json`."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self._rounds = {
            (each["server"], each["work"], each["load"], each["client"]): each["rounds"]
            for each in record["results"]
            if each["rounds"]
        }

    def rounds(self, server: str, work: str, load: str, client: str) -> Rounds:
        """Of one server in one series; empty if it did not take part."""
        return self._rounds.get((server, work, load, client), ())

    def middle(self, server: str, work: str, load: str, client: str, measure: str) -> float | None:
        """Median of a measure; None if the server did not take part."""
        rounds = self.rounds(server, work, load, client)
        return median(each[measure] for each in rounds) if rounds else None

    def loads(self, work: str, client: str) -> list[str]:
        """Loads under which a work was measured with a client, in the order of measuring."""
        return list(dict.fromkeys(key[2] for key in self._rounds if (key[1], key[3]) == (work, client)))

    def works(self) -> list[tuple[str, str]]:
        """Works and clients, in the order of measuring."""
        return list(dict.fromkeys((key[1], key[3]) for key in self._rounds))

    def servers(self, work: str, client: str) -> list[str]:
        """Servers that did a work for a client, in the order of the page."""
        able = {key[0] for key in self._rounds if (key[1], key[3]) == (work, client)}
        return [each["name"] for each in self.record["servers"] if each["name"] in able]

    def server(self, name: str) -> Mapping[str, Any] | None:
        """Facts about a server."""
        return next((each for each in self.record["servers"] if each["name"] == name), None)
