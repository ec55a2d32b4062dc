"""The reconcile decision as a table: what is wanted, what there is, how much room; the steps."""

import random

import pytest

from deploy.ray.decision import Phase, Promote, Refuse, Remove, Seen, Start, Step, Stop, Wanted, decide

PHASES = {"s": Phase.STARTING, "r": Phase.READY, "l": Phase.LOST, "x": Phase.STOPPING, "f": Phase.FAILED}


def seen(text: str) -> list[Seen]:
    """`old1:r new1:s`: replicas of the revisions `old` and `new` with their phases; F failed after it was ready."""
    replicas: list[Seen] = []
    for part in text.split():
        name, _, phase = part.partition(":")
        known = PHASES[phase.lower()]
        replicas.append(Seen(name, name[:3], known, f"why {name}", was_ready=phase in "rlxF"))
    return replicas


CASES: dict[str, tuple[Wanted, str, int, list[Step]]] = {
    "a new cluster starts all": (Wanted(2, "old"), "", 6, [Start("old"), Start("old")]),
    "as many as fit": (Wanted(3, "old"), "", 1, [Start("old")]),
    "nothing to do": (Wanted(2, "old"), "old1:r old2:r", 1, []),
    "one that starts counts": (Wanted(2, "old"), "old1:r old2:s", 1, []),
    "a failed one is replaced": (Wanted(2, "old"), "old1:r old2:f", 1, [Remove("old2"), Start("old")]),
    "one that stops does not count": (Wanted(2, "old"), "old1:r old2:x", 1, [Start("old")]),
    "a lost one is replaced and kept": (Wanted(2, "old"), "old1:r old2:l", 1, [Start("old")]),
    "and stays until that one is ready": (Wanted(2, "old"), "old1:r old2:l old3:s", 1, []),
    "then it goes": (Wanted(2, "old"), "old1:r old2:l old3:r", 1, [Stop("old2")]),
    "if all are lost none is stopped": (Wanted(2, "old"), "old1:l old2:l old3:s old4:s", 1, []),
    "too many: one that starts goes first": (Wanted(1, "old"), "old1:r old2:s", 1, [Stop("old2")]),
    "too many: the oldest goes": (Wanted(1, "old"), "old1:r old2:r", 1, [Stop("old1")]),
    "down stops all": (Wanted(0, "old"), "old1:r old2:s", 1, [Stop("old2"), Stop("old1")]),
    "an upgrade starts one": (Wanted(2, "old", "new"), "old1:r old2:r", 1, [Start("new")]),
    "and waits for it": (Wanted(2, "old", "new"), "old1:r old2:r new1:s", 1, []),
    "then stops one": (Wanted(2, "old", "new"), "old1:r old2:r new1:r", 1, [Stop("old1")]),
    "and starts the next": (Wanted(2, "old", "new"), "old1:x old2:r new1:r", 1, [Start("new")]),
    "until all are new": (Wanted(2, "old", "new"), "new1:r new2:r", 1, [Promote()]),
    "without room one stops first": (Wanted(2, "old", "new"), "old1:r old2:r", 0, [Stop("old1")]),
    "and nothing else stops before it has left": (Wanted(3, "old", "new"), "old1:x old2:r old3:r", 0, []),
    "the only one is not stopped": (
        Wanted(1, "old", "new"),
        "old1:r",
        0,
        [Refuse("the only replica cannot be replaced without a gap: no node has room for a second one")],
    ),
    "a bad version is refused": (
        Wanted(2, "old", "new"),
        "old1:r old2:r new1:f",
        1,
        [Remove("new1"), Refuse("why new1")],
    ),
    "a good one that was killed is not": (
        Wanted(2, "old", "new"),
        "old1:r new1:r new2:F",
        1,
        [Remove("new2"), Start("new")],
    ),
    "a lost one on trial goes": (Wanted(2, "old", "new"), "old1:r old2:r new1:l", 1, [Stop("new1")]),
    "if all are lost, on trial too, none is stopped": (Wanted(2, "old", "new"), "old1:l new1:l new2:l", 0, []),
    "but another one is started": (Wanted(2, "old", "new"), "old1:l new1:l", 1, [Start("new")]),
    "and waited for": (Wanted(2, "old", "new"), "old1:l new1:l new2:s", 1, []),
    "after a refusal the old ones come back": (Wanted(2, "old"), "old1:r new1:r", 1, [Start("old")]),
    "and then the new ones go": (Wanted(2, "old"), "old1:r old2:r new1:r", 1, [Stop("new1")]),
    "without room a new one goes first": (Wanted(2, "old"), "old1:r new1:r", 0, [Stop("new1")]),
    "but only one at a time": (Wanted(3, "old"), "old1:r new1:x new2:r", 0, []),
}


@pytest.mark.parametrize("case", CASES)
def test_steps(case: str) -> None:
    wanted, replicas, room, steps = CASES[case]
    assert decide(wanted, seen(replicas), room) == steps


class Model:
    """A cluster of three places: a start takes a step, servers get lost, a bad revision fails."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.wanted = Wanted(2, "old", "new")
        self.replicas = {"old1": Phase.READY, "old2": Phase.READY}
        self.were_ready = set(self.replicas)
        self.bad = self.chance.random() < 0.3
        self.started = 0

    def pass_time(self, *, faults: bool) -> None:
        for name, phase in list(self.replicas.items()):
            started = Phase.FAILED if self.bad and name.startswith("new") else Phase.READY
            lost = self.chance.choice([Phase.LOST, Phase.FAILED, Phase.READY])
            self.replicas[name] = {Phase.STARTING: started, Phase.LOST: lost}.get(phase, phase)
            if phase is Phase.STOPPING:
                del self.replicas[name]
        ready = [name for name, each in self.replicas.items() if each is Phase.READY]
        if faults and len(ready) > 1 and self.chance.random() < 0.1:
            self.replicas[self.chance.choice(ready)] = Phase.LOST
        self.were_ready.update(ready)

    def reconcile(self) -> None:
        now = [Seen(name, name[:3], each, "", name in self.were_ready) for name, each in self.replicas.items()]
        for step in decide(self.wanted, now, 3 - len(self.replicas)):
            match step:
                case Start(revision):
                    self.started += 1
                    self.replicas[f"{revision}-{self.started}"] = Phase.STARTING
                case Stop(name):
                    self.replicas[name] = Phase.STOPPING
                case Remove(name):
                    del self.replicas[name]
                case Refuse():
                    self.wanted = Wanted(2, "old")
                case Promote():
                    self.wanted = Wanted(2, "new")


@pytest.mark.parametrize("seeds", range(10))
def test_whatever_fails_an_upgrade_ends_with_as_many_as_wanted_and_never_without_a_ready_one(seeds: int) -> None:
    for seed in range(100 * seeds, 100 * seeds + 100):
        model = Model(seed)
        for tick in range(60):
            model.pass_time(faults=tick < 20)
            model.reconcile()
            assert len(model.replicas) <= 3, seed
            assert Phase.READY in model.replicas.values(), seed
        assert model.wanted == Wanted(2, "old" if model.bad else "new"), seed
        assert [name[:3] for name in model.replicas] == [model.wanted.current] * 2, seed
        assert set(model.replicas.values()) == {Phase.READY}, seed
