"""Machines on one machine: network, process and mount namespaces with their own addresses, on a bridge."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
_NETWORK = "10.77.0"
_GATEWAY = 254
_PREFIX = "hg-"
# Ends with the thread that started it, however that ends.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_RELAY = Path(__file__).with_name("relay.py")


def problem() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if missing := [each for each in ("ip", "iptables", "nsenter", "unshare", "setpriv") if not shutil.which(each)]:
        return f"{', '.join(missing)} is absent: apt-get install iproute2 iptables util-linux"
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], check=False, capture_output=True)
    return "" if tried.returncode == 0 else f"namespaces are not allowed: {tried.stderr.decode().strip()}"


class Machine:
    """One machine: a set of namespaces whose first process, once killed, takes all others with it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"{_PREFIX}{os.getpid()}-{number}"
        self.address = f"{_NETWORK}.{number}"
        self._first: subprocess.Popen[bytes]
        self._relay: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._pid = 0

    def boot(self) -> None:
        """Start its first process, which reaps orphans."""
        script = "mount -t tmpfs none /dev/shm; ip link set lo up; while :; do sleep 1000 & wait $!; done"
        space = [*_WITH_US, "ip", "netns", "exec", self.name, "unshare", "--pid", "--mount", "--fork", "--kill-child"]
        self._first = subprocess.Popen(
            [*space, "--mount-proc", "bash", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children")
        wait_for(lambda: children.read_text().split(), f"the first process of {self.name}")
        self._pid = int(children.read_text().split()[0])
        wait_for(lambda: b"bash" in Path(f"/proc/{self._pid}/cmdline").read_bytes(), "namespaces")

    def connect(self, delay_ms: float | None) -> None:
        """Plug it into the switch: by a cable, or by a relay that delays each packet."""
        if delay_ms is None:
            ip("link", "add", "eth0", "netns", self.name, "type", "veth", "peer", "name", self.port, "netns", _switch())
        else:
            command = [*_WITH_US, sys.executable, str(_RELAY), self.name, _switch(), self.port, str(delay_ms)]
            self._relay = subprocess.Popen(command)
            wait_for(lambda: quiet("ip", "-n", _switch(), "link", "show", self.port), "the relay")
        ip("-n", _switch(), "link", "set", self.port, "master", "br0", "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        # Programs find their own address by a route to the world.
        ip("-n", self.name, "route", "add", "default", "via", f"{_NETWORK}.{_GATEWAY}")

    @property
    def port(self) -> str:
        """Its port of the switch."""
        return f"p{self.number}"

    def command(self, *command: str) -> list[str]:
        """A command that runs on this machine."""
        return ["nsenter", "-t", str(self._pid), "--net", "--pid", "--mount", "--", *command]

    def start(self, *command: str, log: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program; its output goes to `log`."""
        with log.open("ab") as output:
            started = subprocess.Popen(
                self.command(*command),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=ROOT,
            )
        self._started.append(started)
        return started

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            self.command(*command),
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=seconds,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )

    def processes(self, *words: str) -> list[int]:
        """Ids, as this machine's host sees them, of processes whose command line holds all words."""
        names = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False).stdout
        return [pid for pid in map(int, names.split()) if all(word in _command_line(pid) for word in words)]

    def is_on(self) -> bool:
        """Whether its first process runs."""
        return self._first.poll() is None

    def die(self) -> None:
        """Kill -9 everything on it at once."""
        os.kill(self._pid, signal.SIGKILL)
        self._first.wait()

    def cut(self, *, cut: bool) -> None:
        """Pull its cable, or plug it in again."""
        ip("-n", _switch(), "link", "set", self.port, "down" if cut else "up")

    def lose(self, probability: float) -> None:
        """Lose that share of incoming packets; 0: none."""
        subprocess.run(self.command("iptables", "-F", "INPUT"), check=True)
        if probability:
            match = ["-m", "statistic", "--mode", "random", "--probability", str(probability)]
            subprocess.run(self.command("iptables", "-A", "INPUT", "-i", "eth0", *match, "-j", "DROP"), check=True)

    def dispose(self) -> None:
        """End its processes; the namespace goes with the network."""
        if self._pid and self._first.poll() is None:
            self.die()
        for each in self._started:
            each.wait()
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()


class Network:
    """Machines on a switch; `close` leaves nothing behind."""

    def __init__(self, delays_ms: Sequence[float | None]) -> None:
        self.machines = [Machine(number) for number in range(1, len(delays_ms) + 1)]
        self._delays_ms = delays_ms

    def open(self) -> None:
        """Make the namespaces, and boot all machines."""
        _delete_namespaces()
        ip("netns", "add", _switch())
        ip("-n", _switch(), "link", "add", "br0", "type", "bridge")
        ip("-n", _switch(), "addr", "add", f"{_NETWORK}.{_GATEWAY}/24", "dev", "br0")
        ip("-n", _switch(), "link", "set", "br0", "up")
        for machine, delay_ms in zip(self.machines, self._delays_ms, strict=True):
            ip("netns", "add", machine.name)
            machine.boot()
            machine.connect(delay_ms)

    def close(self) -> None:
        """End all machines, and delete the namespaces."""
        for machine in self.machines:
            machine.dispose()
        _delete_namespaces()


def _delete_namespaces() -> None:
    """Delete those of this process, and of processes that were killed."""
    for space in Path("/run/netns").glob(f"{_PREFIX}*-*"):
        owner = space.name.split("-")[1]
        if owner == str(os.getpid()) or not Path("/proc", owner).exists():
            ip("netns", "del", space.name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _switch() -> str:
    """The namespace of this process's switch."""
    return f"{_PREFIX}{os.getpid()}-switch"


def quiet(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def wait_for(holds: Callable[[], object], what: str, seconds: float = 60) -> float:
    """Wait until a condition holds; the seconds that it took."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return time.monotonic() - start


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
