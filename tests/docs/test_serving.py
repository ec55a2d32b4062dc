"""What the pages say of requests and of labels is what the server does."""

import re
from dataclasses import fields
from pathlib import Path

from server.execution_config import LimitsConfig
from server.models.labels import LABELS_FILE, LabelReader
from tests.docs.test_pages import DOCS, table


def test_api_states_every_limit_of_a_request() -> None:
    stated = {row[0].strip("`-").replace("-", "_") for row in table("api.md", "Limits")}
    assert {field.name for field in fields(LimitsConfig)} <= stated


def test_the_labels_of_the_page_are_some(tmp_path: Path) -> None:
    page = (DOCS / "configuration.md").read_text()
    assert LABELS_FILE in page
    examples = re.findall(r'\{"stable": [^}]+\}', page)
    assert len(examples) > 1
    for example in examples:
        (tmp_path / LABELS_FILE).write_text(example)
        assert LabelReader(tmp_path.parent).read(tmp_path.name, {3, 4}).keys() == {"stable", "canary"}
