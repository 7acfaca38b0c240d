"""Every example of the page on the Python client runs, and prints what the page says."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.system.process import Standalone

ROOT = Path(__file__).resolve().parent.parent


def test_the_examples_of_the_client_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "reference" / "python-client.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    expected = re.findall(r"# -> (.*)$", program, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()

    catalogue = (ROOT / "example" / "hello.yaml").read_text(encoding="utf-8")
    with Standalone(tmp_path, catalogue) as engine, redirect_stdout(printed):
        exec(program.replace("http://127.0.0.1:8080", engine.url), {"__name__": "example"})  # noqa: S102 - the examples of our own page

    assert printed.getvalue().splitlines() == expected
