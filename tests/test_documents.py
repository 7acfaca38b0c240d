"""What the documents say is so: commands, settings, routes, exit codes, pictures, and every example runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import click
import pytest
import requests

from echelon.controller.core.answers import Verb
from echelon.controller.settings import Settings, list_settings
from echelon.shared.command import GROUP, ExitCode
from img.draw_states import TARGET, draw
from tests.system.process import Standalone

ROOT = Path(__file__).resolve().parent.parent
ECHELON = Path(sys.executable).parent / "echelon"
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference"
INSTALL = ROOT / "docs" / "how-to" / "install.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CATALOGUES = sorted((ROOT / "example").rglob("*.yaml"))
METHODS = {"get", "post", "put", "patch", "delete"}
#: Settings that depend on the machine are described instead of quoted.
DESCRIBED = {"volume": "the user's data folder", "slots": "number of CPUs"}


def blocks(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> Iterator[str]:
    """Yield each call of `echelon` in a piece of text, continued lines joined, without its prompt and comments.

    "echelon listens on ..." is not one, but what an engine prints.
    """
    for line in re.sub(r"\\\n\s*#?", " ", text).splitlines():
        found = re.search(r"(?:^|[\s`/])(?<!from )(echelon (?!listens)[a-z][^`#]*)", line)
        if found:
            yield found[1].strip()


# --- the two commands


def test_the_readme_has_two_commands_of_one_line_each() -> None:
    commands = [block for block in blocks(README, "sh") if "venv" in block]

    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/echelon run example/hello.yaml hello\n",
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest\n",
    ]


def test_ci_runs_the_readme_commands_word_for_word() -> None:
    wanted = re.findall(r'^afresh "\$\(readme \'(.*)\'\)"$', (ROOT / ".ci/run").read_text(), re.MULTILINE)

    found = [next(line for line in README.read_text().splitlines() if part in line) for part in wanted]

    assert found == [block.strip() for block in blocks(README, "sh") if "venv" in block]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150


# --- tables


def test_the_page_of_settings_lists_every_setting() -> None:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for one in list_settings():
        value = one.mask_value(getattr(Settings(), one.name))
        default = DESCRIBED.get(one.name) or (f"`{value}`" if value else "")
        rows.append(f"| `{one.name}` | {default} | {one.meaning} |")

    assert "\n".join(rows) in (REFERENCE / "settings.md").read_text(encoding="utf-8"), "\n".join(rows)


def test_the_page_of_commands_lists_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| ", (REFERENCE / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert [int(row) for row in rows] == list(ExitCode)


# --- commands


def commands() -> dict[str, click.Command]:
    return {entry.name: entry.load() for entry in entry_points(group=GROUP)}


def test_every_call_of_echelon_in_a_document_is_one_that_exists() -> None:
    known = commands()
    mistakes = []
    for path in [*DOCUMENTS, *CATALOGUES]:
        for line in command_lines(path.read_text(encoding="utf-8")):
            mistakes += [f"{path.name}: {line}: {wrong}" for wrong in unknown_words(line, known)]

    assert mistakes == []


def unknown_words(line: str, known: dict[str, click.Command]) -> list[str]:
    """Return the subcommand, or the options, that do not exist."""
    name, *words = re.sub(r"['\[\]]", "", line).split()[1:]
    if name not in known:
        return [name]
    options = {"--help"} | {option for param in known[name].params for option in param.opts}
    return [word for word in words if word.startswith("-") and word.split("=")[0] not in options]


def test_a_call_that_does_not_exist_is_caught() -> None:
    assert unknown_words("echelon shwo ID", commands()) == ["shwo"]
    assert unknown_words("echelon show ID --colour", commands()) == ["--colour"]


def test_every_command_is_mentioned_in_the_documents() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)

    assert [name for name in commands() if not re.search(rf"\bechelon {name}\b", text)] == []


# --- links and pictures


def test_every_link_leads_somewhere() -> None:
    dead = [
        f"{path.name}: {link}"
        for path in DOCUMENTS
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
        if not link.startswith(("http", "#")) and not (path.parent / unquote(link.split("#")[0])).exists()
    ]

    assert dead == []


@pytest.mark.parametrize("page", ["docs/explanation/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_for_developers_names_is_there(page: str) -> None:
    named = re.findall(r"`((?:controller|worker|shared|tests|echelon|docs)/[\w./]+)`", (ROOT / page).read_text("utf-8"))

    assert len(named) >= 5
    assert [path for path in named if not (ROOT / path).exists() and "NAME" not in path] == []


def headings(path: Path) -> set[str]:
    """Return the anchors of a page."""
    titles = re.findall("^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_that_a_program_names_is_there() -> None:
    sources = [
        path
        for folder in ("bench", "controller", "deploy", "shared", "tests", "worker")
        for path in (ROOT / folder).rglob("*.*")
    ]
    named = {
        (path.name, page)
        for path in sources
        if path.suffix in {".py", ".yml", ".env", ".service", ".md"}
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }

    assert len(named) > 10
    assert sorted((name, page) for name, page in named if not (ROOT / page).exists()) == []


def test_every_heading_that_is_linked_to_is_there() -> None:
    links = [
        (path, path if target.startswith("#") else path.parent / target.split("#")[0], target.split("#")[1])
        for path in DOCUMENTS
        for target in re.findall(r"\]\((?!http)([^)]*#[^)]+)\)", path.read_text(encoding="utf-8"))
    ]

    assert len(links) > 20
    assert [f"{path.name}: {page.name}#{title}" for path, page, title in links if title not in headings(page)] == []


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {index.parent / link for link in re.findall(r"\]\(([^)#]+)\)", index.read_text(encoding="utf-8"))}

    assert listed == set((ROOT / "docs").rglob("*.md")) - {index}


@pytest.mark.parametrize("picture", sorted((ROOT / "img").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_well_formed_and_says_what_it_shows(picture: Path) -> None:
    title = ElementTree.parse(picture).getroot().find("{http://www.w3.org/2000/svg}title")

    assert title is not None
    assert title.text


def test_the_drawing_of_the_states_is_made_from_their_tables() -> None:
    assert TARGET.read_text(encoding="utf-8") == draw(), "python3 -m img.draw_states makes it anew"


# --- the catalogue


def catalogue_blocks() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for number, block in enumerate(blocks(document, "yaml")):
            if re.search("^jobs:", block, re.MULTILINE) and re.search("^tasks:", block, re.MULTILINE):
                yield f"{document.parent.name}-{document.stem}-{number}", block


BLOCKS = list(catalogue_blocks())


@pytest.mark.parametrize(("name", "text"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_a_catalogue_in_a_document_is_valid(name: str, text: str, tmp_path: Path) -> None:
    catalogue = tmp_path / f"{name}.yaml"
    catalogue.write_text(text, encoding="utf-8")

    done = subprocess.run([ECHELON, "validate", catalogue], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (ExitCode.GOOD, done.stderr), done.stdout + done.stderr


# --- examples


def example_calls() -> Iterator[tuple[str, list[str], int]]:
    """Yield (name, command, promised exit code) of each example, from the comment at its head."""
    for catalogue in CATALOGUES:
        if catalogue == ATTENDED:
            continue
        comment = re.match(r"(#.*\n)+", catalogue.read_text(encoding="utf-8"))
        assert comment, f"{catalogue} does not say what it shows"
        promised = re.search(r"exit\s(?:#\s)?code (\d)", comment[0])
        assert promised, f"{catalogue} does not say how it ends"
        calls = re.findall(r"^# {3}(python3 .*|echelon run .*)$", comment[0], re.MULTILINE)
        assert calls, f"{catalogue} does not say how to run it"
        for number, call in enumerate(calls):
            yield f"{catalogue.stem}-{number}", shlex.split(call), int(promised[1])


#: Waits for a person; tests/commands/test_control_example.py is one.
ATTENDED = ROOT / "example" / "control.yaml"
CALLS = list(example_calls())


@pytest.mark.parametrize(("name", "call", "promised"), CALLS, ids=[name for name, _, _ in CALLS])
def test_an_example_ends_as_it_says(name: str, call: list[str], promised: int, tmp_path: Path) -> None:
    program = {"python3": sys.executable, "echelon": str(ECHELON)}[call[0]]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ECHELON_")}

    done = subprocess.run(
        [program, *call[1:], "--volume", str(tmp_path / "volume")],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == promised, done.stdout + done.stderr


def test_the_folder_of_examples_is_one_catalogue_as_compose_takes_it() -> None:
    done = subprocess.run([ECHELON, "validate", ROOT / "example"], capture_output=True, text=True, check=False)

    assert done.returncode == ExitCode.GOOD, done.stderr


def test_every_example_is_one_that_is_run() -> None:
    run = {word for _, call, _ in CALLS for word in call if word.startswith("example/")}

    assert {str(path.relative_to(ROOT)) for path in CATALOGUES} - run == {
        "example/task_job_config.yaml",
        str(ATTENDED.relative_to(ROOT)),
    }
    assert "example/run_request_data.py" in run


# --- the engine that stays


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """Run what the README calls an engine that stays."""
    files = [ROOT / "example" / name for name in ("hello.yaml", "header.yaml")]
    catalogue = "---\n".join(file.read_text(encoding="utf-8") for file in files)
    with Standalone(tmp_path_factory.mktemp("standalone"), catalogue) as running:
        yield running


def test_the_reference_of_rest_lists_every_call(standalone: Standalone) -> None:
    listed = re.findall(r"^\| `([A-Z]+) (/\S+)` \|", (REFERENCE / "rest.md").read_text(encoding="utf-8"), re.MULTILINE)

    described = requests.get(f"{standalone.url}/openapi.json", timeout=30).json()["paths"]

    routes = [(method.upper(), path) for path, item in described.items() for method in METHODS & item.keys()]
    verbs = [verb for verb in Verb if verb not in (Verb.ADD, Verb.PRIORITY)]
    named = [(method, path.replace("{verb}", verb)) for method, path in listed for verb in verbs]

    assert sorted(set(named)) == sorted(routes)


def test_the_curl_calls_of_the_readme_are_answered_well(standalone: Standalone) -> None:
    lines = "".join(blocks(README, "sh")).replace("\\\n", " ").splitlines()
    calls = [line for line in lines if line.startswith("curl")]

    submitted = send(calls[0], standalone, "")
    job_id = submitted.json()["job_id"]
    standalone.ended(job_id)
    answers = {call: send(call, standalone, job_id).status_code for call in calls}

    assert submitted.headers["Location"].endswith(f"/api/v1/jobs/{job_id}")
    assert answers == {call: 201 if "-d" in call else 409 if "cancel" in call else 200 for call in calls}


def test_a_header_of_the_request_is_an_input_as_the_page_on_installation_shows_it(standalone: Standalone) -> None:
    calls = re.findall(r"^\$ (curl .*)\n(?:([a-z]+)\n)?", "".join(blocks(INSTALL, "console")), re.MULTILINE)
    (submit, _), (fetch, fetched) = calls
    submitted = send(submit, standalone, "")
    job_id = submitted.json()["job_id"]
    assert standalone.ended(job_id) == "COMPLETED"

    assert submitted.json()["input"] == {"token": "********"}
    assert re.search(r"input.:{.token.:.\*{8}.}", INSTALL.read_text(encoding="utf-8"))
    shown_id = re.search(r"/jobs/([0-9a-f-]{36})/", fetch)
    assert shown_id
    assert send(fetch.replace(f"/{shown_id[1]}", "/ID"), standalone, job_id).text == f"{fetched}\n" == "ada\n"


def send(call: str, standalone: Standalone, job_id: str) -> requests.Response:
    """Send the request that a line with curl describes."""
    words = shlex.split(call.replace("http://127.0.0.1:8080", standalone.url).replace("/ID", f"/{job_id}"))
    url = next(word for word in words if word.startswith("http"))
    given = dict(pairwise(words))
    headers = dict(value.split(": ", 1) for option, value in pairwise(words) if option == "-H")
    method = given.get("-X", "POST" if "-d" in given else "GET")
    return requests.request(method, url, headers=headers, data=given.get("-d"), timeout=30)


def test_the_client_calls_of_the_readme_end_well(standalone: Standalone, tmp_path: Path) -> None:
    lines = [line for line in "".join(blocks(README, "sh")).splitlines() if re.match("echelon (?!stand)", line)]
    environment = {**os.environ, "ECHELON_URL": standalone.url}
    job_id = standalone.client.submit_job("hello")["job_id"]
    standalone.ended(job_id)

    ends = {}
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = [str(ECHELON), *(job_id[:8] if word == "ID" else word for word in words)]
        ends[line] = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode

    assert len(ends) >= 3
    assert set(ends.values()) == {0}, ends
    assert (tmp_path / "out" / "hello.txt").read_text() == "Hello, world!\n"
