"""The pages say what the code does."""

import importlib
import re
import sys
from pathlib import Path

import grpc
import pytest
import yaml
from autoencoder.v1 import autoencoder_pb2 as pb

from docs import settings
from server import errors
from training.commands import COMMANDS
from training.config import Config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MINE = [DOCS / f"{name}.md" for name in ("api", "configuration", "explorer", "metrics", "operations", "reliability")]
RUNBOOKS = "https://hourglass.example/docs/operations.md"
LINKED = [*MINE, ROOT / "SECURITY.md"]
TOOLS = ("export", "training")


def table(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its first two lines."""
    text = (DOCS / page).read_text().split(f"# {heading}\n", 1)[1]
    lines = text[text.index("|") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def all_errors(kind: type[errors.ServingError]) -> set[type[errors.ServingError]]:
    return {kind}.union(*(all_errors(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("name", settings.PAGES)
def test_tables_of_settings_are_those_of_the_code(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == settings.updated(name, page), "run make docs"


def test_configuration_lists_every_setting() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert all(f"`HOURGLASS_{name.upper()}`" in page for name in settings.FIELDS)


def test_training_lists_every_setting_of_a_recipe() -> None:
    page = (DOCS / "training.md").read_text()
    for section in ("model", "loss", "optimizer", "run", "data", "device", "output", "evaluation"):
        kind = Config.model_fields[section].annotation
        assert all(f"`{section}.{field}`" in page for field in kind.model_fields)


@pytest.mark.parametrize("tool", TOOLS)
def test_commands_that_pages_name_take_their_flags(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / f"{tool}.md").read_text()
    used = {
        (command, flag)
        for line in re.findall(rf"(?:python|torchrun .*) -m {tool} ([^`\n|]*)", text)
        for command in [line.split()[0]]
        for flag in re.findall(r"--[a-z-]+", line)
    }
    assert used
    main = importlib.import_module(f"{tool}.__main__").main
    for command, flag in sorted(used):
        words = [command] if command in {*COMMANDS, "verify", "inspect", "diff", "import", "module", "table"} else []
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--help"])
        assert flag in capsys.readouterr().out, (command, flag)


def test_api_lists_every_method() -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["AutoencoderService"].methods}
    assert {row[0].strip("`") for row in table("api.md", "Methods of `autoencoder.v1.AutoencoderService`")} == methods


def test_api_lists_every_status() -> None:
    documented = {row[0].strip("`") for row in table("api.md", "Status codes")}
    assert documented == {error.code.name for error in all_errors(errors.ServingError)}
    assert documented < {code.name for code in grpc.StatusCode}


def test_api_states_the_limits() -> None:
    for flag, default in table("api.md", "Limits"):
        name = flag.strip("`-").replace("-", "_")
        assert str(settings.FIELDS[name].default) == default, flag


def test_every_exit_code_is_documented() -> None:
    documented = {row[0] for row in table("operations.md", "Exit codes")}
    source = (ROOT / "server" / "__main__.py").read_text()
    assert documented == set(re.findall(r"(?:return |_exit\()(\d)", source))


def test_every_alert_has_its_runbook() -> None:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    assert alerts
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == RUNBOOKS
        assert anchor == alert["alert"].lower()
        assert anchor in anchors(DOCS / "operations.md")


@pytest.mark.parametrize(
    "page",
    [*LINKED, *(DOCS / f"{page}.md" for page in (*TOOLS, "faults", "your-own-network", "zoo")), ROOT / "README.md"],
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_files_and_flags_that_pages_name_exist(page: Path) -> None:
    # Flags of other programs are their own.
    foreign = re.compile(r"^(?:kubectl|promtool|curl|[A-Z]+=).*$|python -m tests\.[^`\n]*", re.MULTILINE)
    text = foreign.sub("", page.read_text())
    for path in re.findall(r"`((?:deploy|docs|server|proto|tests)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    known = {f"--{name.replace('_', '-')}" for name in settings.FIELDS} | {"--help", "--target"}
    known |= {"--no-explorer", "--no-reflection"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known, sys.argv
