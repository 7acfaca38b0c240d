"""Checks of a task class that runs a script, and of the files that it brings along."""

from __future__ import annotations

import re
from collections.abc import Iterator

from echelon.controller.catalogue.reading import Reading
from echelon.controller.catalogue.scripts import SHELLS, is_variable, suggest_variable
from echelon.controller.catalogue.task_classes import MAX_SCRIPT, TaskClass
from echelon.controller.catalogue.tree import Path, join_path
from echelon.shared.expressions import TemplateError, compile_template


def check_script(reading: Reading, path: Path, task: TaskClass) -> None:
    """Note what is wrong with a script, its files and the inputs that it gets; `path` leads to its task."""
    size = len(task.run or "") + sum(len(content) for content in task.files.values())
    if size > MAX_SCRIPT:
        key = "files" if task.files else "run"
        message = f"{join_path(path)}: its script and files are longer than {MAX_SCRIPT} characters together"
        reading.add_mistake(reading.find_key((*path, key)), message, "put them into files/ beside the catalogue")
    if task.run is None:
        if (*path, "shell") in reading.keys:
            reading.add_warning(reading.find_key((*path, "shell")), "shell means nothing without run", "leave it out")
        return
    if not task.shell:
        reading.add_mistake(reading.find_key((*path, "shell")), f"{join_path(path)}.shell: is empty", "leave it out")
    if task.exec_args:
        message = f"{join_path(path)}.exec_args: a script has no arguments"
        remedy = "give it its inputs: each is a variable of its environment"
        reading.add_mistake(reading.find_key((*path, "exec_args")), message, remedy)
    if task.run.startswith("#!") and (*path, "shell") in reading.keys:
        message = "shell means nothing for a script that begins with #!"
        reading.add_warning(reading.find_key((*path, "shell")), message, "leave one of them out")
    _check_inputs(reading, path, task)
    _warn_of_placeholders(reading, path, task)


def _check_inputs(reading: Reading, path: Path, task: TaskClass) -> None:
    """Note the inputs that the script cannot get: their names are no variables, and no variable holds them."""
    held = {name for text in task.env.values() for name in _find_names(text)}
    for name in task.input:
        if not is_variable(name) and name not in held:
            message = f"a script cannot get the input {name!r} under its name"
            why = "it is in upper case" if name.isupper() else "it could change how programs work"
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                why = "it is not the name of a variable"
            remedy = f'add `env: {{{suggest_variable(name)}: "{{{name}}}"}}`'
            place = reading.find_key((*path, "input", name))
            reading.add_mistake(place, f"{join_path((*path, 'input', name))}: {message}: {why}", remedy)


def _find_names(text: str) -> frozenset[str]:
    try:
        return compile_template(text, None).names
    except TemplateError:
        return frozenset()


def _warn_of_placeholders(reading: Reading, path: Path, task: TaskClass) -> None:
    """Warn of each placeholder in the script of a shell: it is not filled in."""
    script = task.run or ""
    first = script.split("\n", 1)[0] if script.startswith("#!") else "".join(task.shell[:1])
    if not SHELLS & set(re.findall(r"[a-z]+", first)):
        return
    for name in _find_placeholders(script):
        if name in task.input:
            place = reading.find_text((*path, "run"), script, script.index(f"{{{name}}}"))
            variable = name if is_variable(name) else suggest_variable(name)
            reading.add_warning(place, f"{{{name}}} is not filled in in a script", f'write "${variable}"')


def _find_placeholders(script: str) -> Iterator[str]:
    yield from dict.fromkeys(re.findall(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_.-]*)\}", script))
