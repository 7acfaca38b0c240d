"""Every example of the page on the Python client runs, and prints what the page says."""

from __future__ import annotations

import configparser
import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.system.process import Standalone

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "python-client.md"


def test_the_examples_of_the_client_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    expected = re.findall(r"# -> (.*)$", program, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()

    catalogue = (ROOT / "example" / "hello.yaml").read_text(encoding="utf-8")
    with Standalone(tmp_path, catalogue) as engine, redirect_stdout(printed):
        exec(program.replace("http://127.0.0.1:8080", engine.url), {"__name__": "example"})  # noqa: S102 - the examples of our own page

    assert printed.getvalue().splitlines() == expected


def test_the_client_needs_the_packages_that_the_page_names_and_no_others() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    required = setup["options"]["install_requires"].split("\n")
    named = re.findall(r"'(\w+[<>=][^']*)'", PAGE.read_text(encoding="utf-8"))
    program = "import sys; from echelon import Client, shapes; print(*{name.partition('.')[0] for name in sys.modules})"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    modules = packages_distributions()
    loaded = {name.lower().replace("_", "-") for module in done.stdout.split() for name in modules.get(module, [])}
    assert set(named) <= set(required)
    assert [line for line in required if re.split("[<>=]", line)[0] in loaded] == sorted(named)
