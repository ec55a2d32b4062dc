"""The demo: trains three models, exports them, serves them, calls them and draws the answers.

    python -m examples.demo --data digits
    python -m examples.demo --data mnist --data-dir DIR

Every step runs the same command line as a user would; the calls go through the Python client.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from hourglass_client import Client, HourglassError

from examples.demo_calls import Calls, call_everything, held_out
from examples.demo_picture import draw
from examples.local_server import DIRECT, ServerError, running

RECIPES = ("fc-ae", "denoiser", "vae")
# Fewer than in the recipes: enough for good pictures within minutes.
EPOCHS = {"digits": {"denoiser": 12}, "mnist": {"fc-ae": 8, "denoiser": 1, "vae": 6}}
COUNTED = re.compile(r"^autoencoder_requests_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)


class DemoError(Exception):
    """A step failed; the text says which."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 on success, 1 if a step failed."""
    return exit_code(run, parse(arguments))


def exit_code(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Run a demo: 0 on success, 1 if a step failed, which is printed."""
    try:
        run(options)
    except (DemoError, ServerError, HourglassError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=sorted(EPOCHS), default="digits", help="what to train on")
    parser.add_argument("--data-dir", type=Path, help="folder of the MNIST files")
    parser.add_argument("--epochs", type=int, help="epochs of every model; by default a number for each")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where checkpoints and pictures go")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where exported models go")
    options = parser.parse_args(arguments)
    if options.data == "mnist" and options.data_dir is None:
        parser.error("--data mnist needs --data-dir DIR, the folder of the four IDX files")
    return options


def run(options: argparse.Namespace) -> None:
    """Train, export, serve, call, draw and print the table."""
    folder: Path = options.runs / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = {recipe: train(recipe, options) + export(recipe, options) for recipe in RECIPES}
    images = held_out(options.runs / "fc-ae" / "best")
    with running(options.models, folder / "server.log") as server, Client(server.address) as client:
        calls = call_everything(client, images)
        counted = count(server.metrics_address)
    if counted != calls.made:
        raise DemoError(f"the metrics page counted {counted}, the client made {calls.made}")
    draw(calls.rows, folder / "demo.png")
    print_table(seconds, calls, options)


def train(recipe: str, options: argparse.Namespace) -> float:
    """Train one recipe into its run folder; return the seconds it took."""
    epochs = options.epochs or EPOCHS[options.data].get(recipe)
    folder = ["--data-dir", str(options.data_dir)] if options.data_dir else []
    limit = ["--epochs", str(epochs)] if epochs else []
    return step(
        "training", recipe, "--data", options.data, *folder, *limit, "--overwrite", "--out", str(options.runs / recipe)
    )


def export(recipe: str, options: argparse.Namespace) -> float:
    """Export the run's best checkpoint as the next version of its model; return the seconds it took."""
    return step("export", str(options.runs / recipe), "--repository", str(options.models))


def step(module: str, *arguments: str) -> float:
    """Run `python -m MODULE …`; return the seconds it took."""
    shown = f"python -m {module} {' '.join(arguments)}"
    print(f"\n$ {shown}", flush=True)
    began = perf_counter()
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode  # noqa: S603 (our own)
    if code != 0:
        raise DemoError(f"`{shown}` failed with exit code {code}; see its message above")
    return perf_counter() - began


def count(metrics_address: str) -> dict[str, int]:
    """Successful requests by method, from the metrics page."""
    with DIRECT.open(f"http://{metrics_address}/metrics", timeout=10) as page:
        text = page.read().decode()
    counts: dict[str, int] = {}
    for found in COUNTED.finditer(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', found["labels"]))
        if labels["code"] == "OK":
            counts[labels["method"]] = counts.get(labels["method"], 0) + int(float(found["value"]))
    return counts


def print_table(seconds: dict[str, float], calls: Calls, options: argparse.Namespace) -> None:
    """Print the table: times, errors, latencies, the path of the picture, the next step."""
    models = "  ".join(f"{recipe} {spent:.0f} s" for recipe, spent in seconds.items())
    picture, port = options.runs / "demo" / "demo.png", 8001
    print(f"\ntrained and exported   {models}\n")
    print(f"{'method':<12}{'model':<10}{'one image, ms':>14}   what came back")
    for call in calls.timed:
        print(f"{call.method:<12}{call.model:<10}{call.milliseconds:>14.2f}   {call.result}")
    print(f"\nmetrics page           {sum(calls.made.values())} requests counted, as many as were made")
    print(f"picture                {picture}")
    print(f"go on                  make serve, then Client('127.0.0.1:{port}') in Python: see client/README.md")
    print("look                   make serve, then http://127.0.0.1:8003/ in a browser: see docs/explorer.md")


if __name__ == "__main__":
    sys.exit(main())
