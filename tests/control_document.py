"""The tables of docs/reference/control.md, made from the core: `python -m tests.control_document` writes them."""

from __future__ import annotations

import re
from pathlib import Path

from echelon.controller.core.answers import STATES, VERBS, Allowed, Kind, NoEffect, Verb, answer_verb
from echelon.controller.core.states import ENDED, State

#: In which states there are tasks whose items did not fit.
MISFITS = {(Kind.TASK, State.FAILED), (Kind.TASK, State.SKIPPED)}
DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "control.md"


def table(kind: Kind) -> str:
    """Return the answers to each verb in each state as a Markdown table."""
    verbs = VERBS[kind]
    lines = ["| | " + " | ".join(f"`{verb}`" for verb in verbs) + " |", "|---" * (len(verbs) + 1) + "|"]
    for state in STATES[kind]:
        for paused in (False, True) if state not in ENDED else (False,):
            if (kind, state, paused) == (Kind.JOB, State.PENDING, False):
                continue
            name = f"{state}, paused" if paused else state.value
            lines.append(f"| {name} | " + " | ".join(_cell(kind, state, verb, paused) for verb in verbs) + " |")
        if (kind, state) in MISFITS:
            cells = (_cell(kind, state, verb, misfit=True) for verb in verbs)
            lines.append(f"| {state}, its item did not fit | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(kind: Kind, state: State, verb: Verb, paused: bool = False, *, misfit: bool = False) -> str:
    said = answer_verb(kind, state, verb, paused=paused, misfit=misfit)
    if isinstance(said, Allowed):
        return said.meaning
    return f"({said.reason})" if isinstance(said, NoEffect) else f"409: {said.reason}"


def written(text: str) -> str:
    """Return the document with its tables made anew."""
    for kind in Kind:
        begin, end = f"<!-- {kind} -->", f"<!-- end of {kind} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{table(kind)}\n{end}", text, flags=re.DOTALL)  # noqa: B023
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
