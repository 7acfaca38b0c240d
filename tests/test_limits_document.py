"""The page on limits says of each the value that the code has, and no limit of the code is missing there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from echelon.controller.api import bodies, headers, schemas
from echelon.controller.catalogue import (
    composing,
    files,
    inline,
    inputs,
    loader,
    mistakes,
    patterns,
    reading,
    task_classes,
    values,
)
from echelon.controller.catalogue.jsonschema import json_schema
from echelon.controller.catalogue.kinds import MAX_SECONDS
from echelon.controller.engine.base import requests
from echelon.controller.serving import LONG_ANSWERS
from echelon.controller.settings import Settings
from echelon.shared import bounded, codec, expressions, sandbox
from echelon.shared.volume.artefacts import DEEPEST
from echelon.worker import attempt, outputs, spawnfile
from echelon.worker.runtimes.process import UMASK
from tests.figures import read_sources

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "limits.md"
SCHEMA = json_schema()
DEFAULTS = Settings()
SPAWN = spawnfile.Limits()


UNITS = {"MiB": 1 << 20, "KiB": 1 << 10}


def size(count: int) -> str:
    unit = next(unit for unit, one in UNITS.items() if count % one == 0)
    return f"{count // UNITS[unit]} {unit}"


def longest(shape: str, key: str) -> str:
    """Return the longest text of a key of the catalogue, or of the names below it, as its JSON Schema has it."""
    place = SCHEMA["$defs"][shape] if shape else SCHEMA
    (length,) = set(re.findall(r"'maxLength': (\d+)", str(place["properties"][key])))
    return f"{length} characters"


def most(shape: str, key: str) -> str:
    """Return the greatest number of a key of the catalogue."""
    return f"{SCHEMA['$defs'][shape]['properties'][key]['maximum']:,}"


#: (limit, its value as the page has it), by heading.
LIMITS: dict[str, list[tuple[str, str]]] = {
    "Catalogue": [
        ("size of a catalogue file", size(loader.MAX_FILE)),
        ("catalogue files", f"{loader.MAX_FILES:,}"),
        ("values in a file; depth", f"{composing.MAX_NODES:,}; {composing.MAX_DEPTH}"),
        ("values of a file that come from aliases", f"{reading.MAX_REPEATED:,}"),
        ("mistakes that one report lists", f"{mistakes.MAX_REPORTED}"),
        ("name of a task class or a job", longest("", "tasks")),
        ("name of an input", longest("task", "input")),
        ("name of a variable", longest("task", "env")),
        ("script (`run`) and `files` of a command together", f"{task_classes.MAX_SCRIPT:,} characters"),
        ("title (`name`) of a task class, a job or a stage", longest("stage", "name")),
        ("name of a queue", longest("task", "queue")),
        ("length of time", f"{MAX_SECONDS / 86400:.0f} days"),
        ("retries; `max_parallel`", f"{most('retry', 'limit')}; {most('stage', 'max_parallel')}"),
        ("files in `files/`; their size together", f"{files.MAX_FILES:,}; {size(files.MAX_BYTES)}"),
    ],
    "Values": [
        ("one value", f"{values.MAX_VALUE:,} bytes"),
        ("all values of a job, or of a task", f"{inputs.MAX_TOTAL:,} characters"),
        ("depth of a value of type `json`", f"{values.MAX_DEPTH}"),
        ("integers", f"64 bits: {values.INTEGERS.start} to {values.INTEGERS.stop - 1}"),
        ("value that a `pattern` is about", f"{values.MAX_MATCHED:,} characters"),
        ("a `pattern`", longest("input", "pattern")),
        ("counts of the repeats `{n,m}` of a pattern together", f"{patterns.MAX_REPEATS:,}"),
        ("a pattern when it is compiled", size(patterns.MAX_MEMORY)),
        ("mistakes that one answer lists", f"{inputs.MAX_MISTAKES}"),
    ],
    "Commands and expressions": [
        ("one argument or variable", f"{expressions.MAX_ARGUMENT:,} bytes"),
        ("one expression", f"{sandbox.MAX_SOURCE:,} characters"),
        ("operations of an expression", f"{sandbox.MAX_OPERATIONS}"),
        ("expressions of a text", f"{expressions.MAX_EXPRESSIONS}"),
        ("text or list within an expression", f"{bounded.MAX_SIZE:,} characters and items"),
        ("integer within an expression", f"{bounded.MAX_BITS} bits"),
        ("digits of `round`", f"{bounded.MAX_DIGITS}"),
        ("size of a value times length of the text that is looked for", f"{bounded.MAX_COMPARISONS:,}"),
        ("all that one attempt needs, as a message", size(codec.MAX_BYTES)),
    ],
    "Tasks": [
        ("items of a `spawn.json`, and tasks of a stage", f"{DEFAULTS.max_items:,} (setting `max_items`)"),
        ("size of a `spawn.json`; of an item", f"{size(SPAWN.bytes)}; {size(SPAWN.item_bytes)}"),
        ("depth of an item", f"{spawnfile.MAX_DEPTH}"),
        ("result (`$ECHELON_OUTPUT`)", size(outputs.RESULT_LIMIT)),
        ("error of an attempt", size(attempt.ERROR_LIMIT)),
        ("folders within folders of artefacts", f"{DEEPEST}"),
        ("rights that files of tasks do not get (umask)", f"{UMASK:03o}"),
    ],
    "Requests": [
        ("body of a request", f"{size(DEFAULTS.max_body)} (setting `max_body`)"),
        ("depth of a body", f"{bodies.MAX_DEPTH}"),
        ("mistakes that one answer lists", f"{bodies.MOST_MISTAKES}"),
        ("`limit` of a list", f"1 to {schemas.MAX_LIMIT}; {schemas.DEFAULT_LIMIT} when it is left out"),
        ("seconds of `wait`", f"{headers.LONGEST_WAIT}"),
        ("requests at once that wait, follow a log or take more than 256 KiB", f"{LONG_ANSWERS}"),
        ("`Idempotency-Key`", f"{headers.LONGEST_KEY} characters"),
        ("spans of tasks of one verb", f"{requests.MOST_SPANS:,}"),
        ("stages of a composed job", f"{inline.MAX_STAGES:,}"),
        ("open jobs", f"{DEFAULTS.max_open_jobs:,} (setting `max_open_jobs`)"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("heading", LIMITS)
def test_the_page_says_the_limits_that_the_code_has(heading: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [
        tuple(part.strip() for part in line.strip("|").split("|")[:2])
        for line in section.splitlines()
        if line[:1] == "|"
    ]

    assert rows[2:] == LIMITS[heading], "\n".join(f"| {limit} | {value} |" for limit, value in LIMITS[heading])


#: MAX_TEMPLATE is MAX_ARGUMENT, and LONGEST_TURN bounds a wait of the worker's own.
INNER = {("shared/expressions.py", "MAX_TEMPLATE"), ("worker/agent.py", "LONGEST_TURN")}


def test_every_limit_of_the_code_stands_on_the_page() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    named = {
        (source.path, target.id)
        for source in read_sources()
        for node in source.tree.body
        for target in ([node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", ()))
        if isinstance(target, ast.Name) and re.match(r"MAX_|MOST_|LONGEST_|DEEPEST", target.id)
    }

    missing = {(path, name) for path, name in named - INNER if not re.search(rf"\b{name}\b", here)}
    assert not missing, f"add them to LIMITS and to docs/reference/limits.md: {sorted(missing)}"
