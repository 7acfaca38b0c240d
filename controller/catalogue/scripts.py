"""Finds the script in a command line, the text that a shell would read as code. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from echelon.controller.catalogue.remedies import write_list

#: What a script can get an input as. Names in upper case belong to programs (PATH, LD_PRELOAD, BASH_ENV): a value there
#: could act as code. POSIX leaves names with a lower-case letter to applications; the variables of proxies are older.
_VARIABLE = re.compile(r"(?=.*[a-z])(?!.*_proxy$)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh", "mksh", "fish"})
_OPTION_WITH_C = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
#: Shell options that take a word of their own.
_TAKES_WORD = re.compile(r"[-+][A-Za-z]*[oO]|--rcfile|--init-file")


def is_variable(name: str) -> bool:
    """Tell whether a script can get an input as a variable of this name."""
    return _VARIABLE.fullmatch(name) is not None


def suggest_variable(name: str) -> str:
    """Return the name of a variable for an input whose own name cannot be one."""
    variable = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return variable if is_variable(variable) else f"{variable}_value"


def script_position(words: Sequence[str]) -> int | None:
    """Return where the script of a `sh -c` stands in a command line, also behind `env`, `sudo` or `xargs`."""
    for place, word in enumerate(words):
        if word.rsplit("/", 1)[-1] in SHELLS:
            found = _after_options(words, place + 1)
            if found is not None:
                return found
    return None


def _after_options(words: Sequence[str], place: int) -> int | None:
    holds_script = False
    while place < len(words) and words[place][:1] in ("-", "+") and words[place] != "--":
        holds_script = holds_script or _OPTION_WITH_C.fullmatch(words[place]) is not None
        place += 2 if _TAKES_WORD.fullmatch(words[place]) else 1
    if place < len(words) and words[place] == "--":
        place += 1
    return place if holds_script and place < len(words) else None


def safe_form(name: str, place: int, count: int) -> str:
    """Return how a script gets a value without it ever becoming code: `place` is the script's, of `count` arguments."""
    variable = re.sub(r"[^A-Za-z0-9_]", "_", name).upper()
    as_variable = f'`env: {{{variable}: "{{{name}}}"}}` and "${variable}" in the script'
    if place != count - 1:
        return f"use {as_variable}"
    return f'use "$1" in the script and append the arguments sh and "{{{name}}}", or {as_variable}'


#: A place for a value, or a word up to the next space.
_WORD = re.compile(r"(?:\{\{.*?\}\}|\S)+")
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\{\w+\}")
_FOR_A_SHELL = frozenset("|&;<>$`*?~")


def find_command_line(command: str, arguments: Sequence[str]) -> str | None:
    """Return what to write instead of a whole command line as the name of a program; None if it may be a name."""
    words = _WORD.findall(command)
    if not words or not re.fullmatch(r"[\w./+-]+", words[0]):
        return None
    if not any(word.startswith("-") or _PLACEHOLDER.search(word) or word in ("|", "&&", ">") for word in words[1:]):
        return None
    quoted = "'" in command or '"' in command
    if _FOR_A_SHELL & set(_PLACEHOLDER.sub("", command)):
        if quoted or arguments:
            return "write `exec_command: sh` and `exec_args: [-c, ...]` with the whole line as a script"
        places = list(dict.fromkeys(_PLACEHOLDER.findall(command)))
        script = _PLACEHOLDER.sub(lambda found: f'"${places.index(found[0]) + 1}"', command)
        given = ["sh", *places] if places else []
        return f"write `exec_command: sh` and `exec_args: {write_list(['-c', script, *given])}`"
    if quoted:
        try:
            words = shlex.split(command)
        except ValueError:
            return "write the program as exec_command and each of its arguments as an item of exec_args"
    return f"write `exec_command: {words[0]}` and `exec_args: {write_list([*words[1:], *arguments])}`"
