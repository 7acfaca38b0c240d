"""Checks within one task class or one list of inputs, beyond its shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from echelon.controller.catalogue.patterns import find_ascii_escape, find_fault
from echelon.controller.catalogue.reading import Reading
from echelon.controller.catalogue.script_checks import check_script
from echelon.controller.catalogue.scripts import find_command_line, safe_form, script_position
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, InputType, TaskClass
from echelon.controller.catalogue.tree import Path, join_path
from echelon.controller.catalogue.values import InvalidValue, check_value
from echelon.shared.expressions import (
    BUILTIN_NAMES,
    Template,
    TemplateError,
    compile_template,
    suggest_name,
    to_text,
)
from echelon.shared.messages import JsonValue

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NUMBERS = frozenset({InputType.INTEGER, InputType.NUMBER})
_HARMLESS_TYPES = _NUMBERS | {InputType.BOOLEAN}
_HARMLESS_WORD = re.compile(r"[\w.,:/@%+=-]*", re.ASCII)


def check_inputs(reading: Reading, path: Path, inputs: Iterable[InputDefinition]) -> None:
    """Note what is wrong with the inputs of a task or a job; `path` leads to it."""
    for definition in inputs:
        place = (*path, "input", definition.name)
        if definition.type is None and (*place, "type") in reading.keys:
            # The schema has refused the type; what limits its values is for the one that was meant.
            definition = replace(definition, minimum=None, maximum=None)
        for key, message, remedy in _check_input(definition, of_task=path[0] == "tasks"):
            here = reading.find_value((*place, key)) if (*place, key) in reading.values else reading.find_key(place)
            reading.add_mistake(here, f"{join_path(place)}: {message}", remedy)
        if definition.source is InputSource.PARAMETER and (*place, "key") in reading.keys:
            reading.add_warning(reading.find_key((*place, "key")), "key means nothing for a parameter", "leave it out")


Found = Iterator[tuple[str, str, str | None]]


def _check_input(one: InputDefinition, *, of_task: bool) -> Found:
    """Yield (key, what is wrong, what to write instead)."""
    if one.name in BUILTIN_NAMES:
        yield "", f"the name {one.name!r} is Echelon's own", "take another name"
    if of_task and one.source is InputSource.HTTP_HEADER:
        yield "source", "a task has no request", "write parameter here, and http-header in the input of the job"
    if not of_task and one.source is InputSource.ENVIRONMENT:
        yield "source", "a job has no worker whose environment could be meant", "declare it in the input of the task"
    if one.source is InputSource.HTTP_HEADER and not _HEADER_NAME.fullmatch(one.key):
        yield "key", f"{one.key!r} is not the name of a header", None
    yield from _check_limits(one)
    fault = find_fault(one.pattern) if one.pattern is not None else None
    if fault is not None:
        yield "pattern", fault.message, fault.remedy
        one = replace(one, pattern=None)
    yield from _check_values(one)


def warn_of_ascii(found: Iterable[tuple[Reading, Path, InputDefinition]]) -> None:
    r"""Warn at the first pattern with \w, \d, \s or \b: RE2 takes ASCII alone there, Python's `re` takes more."""
    for reading, path, one in found:
        escape = find_ascii_escape(one.pattern or "")
        if escape is not None:
            message = f"in patterns {escape} is about ASCII characters alone"
            remedy = r"write \p{L} for letters and \p{N} for digits of every script, or [0-9A-Za-z_] if ASCII is meant"
            reading.add_warning(reading.find_value((*path, "input", one.name, "pattern")), message, remedy)
            return


def _check_limits(one: InputDefinition) -> Found:
    for key, limit in (("minimum", one.minimum), ("maximum", one.maximum)):
        if limit is not None and one.type not in _NUMBERS:
            yield key, "is for numbers", "add `type: integer` or `type: number`"
    if one.minimum is not None and one.maximum is not None and one.minimum > one.maximum:
        yield "maximum", f"is less than minimum ({to_text(one.minimum)})", None
    if one.pattern is not None and one.type not in (None, InputType.STRING):
        yield "pattern", f"is for text, not for {one.type}", "leave it out, or write `type: string`"


def _check_values(one: InputDefinition) -> Found:
    if one.enum is not None:
        if not one.enum:
            yield "enum", "is empty", "write at least one value"
        for choice in one.enum:
            detail = _find_misfit(replace(one, enum=None), choice)
            if detail is not None:
                yield "enum", _tell_misfit(choice, detail), None
    if not one.required and one.default is not None:
        detail = _find_misfit(one, one.default)
        if detail is not None:
            yield "default", _tell_misfit(one.default, detail), None


def _tell_misfit(value: JsonValue, detail: str) -> str:
    """Return what is wrong with a value, with the value at its beginning."""
    text = to_text(value)
    return detail if detail.startswith((text, repr(text))) else f"{text[:60]!r} {detail}"


def _find_misfit(definition: InputDefinition, value: object) -> str | None:
    try:
        check_value(definition, value)
    except InvalidValue as error:
        return error.detail
    return None


def has_unread_inputs(reading: Reading, path: Path) -> bool:
    """Tell whether the inputs of a task or a job are no table, or stand under a misspelt key: that is one mistake."""
    table = _find_table(reading, path)
    if not isinstance(table.get("input"), dict | None):
        return True
    return any(key != "input" and suggest_name(str(key), ["input"]) for key in table)


def _find_table(reading: Reading, path: Path) -> dict[Any, Any]:
    """Return a task or a job as it is written."""
    section, name = path
    written = reading.data[str(section)]
    found = written[name] if isinstance(written, dict) else None
    return found if isinstance(found, dict) else {}


def check_task(reading: Reading, task: TaskClass) -> TaskClass:
    """Return the task class with what its templates tell, after noting what is wrong with them."""
    path: Path = ("tasks", task.task_class)
    check_inputs(reading, path, task.input.values())
    declared = _find_table(reading, path).get("input")
    known: frozenset[str] | None
    known = BUILTIN_NAMES | task.input.keys() | (declared.keys() if isinstance(declared, dict) else set())
    if has_unread_inputs(reading, path):
        known = None
    _check_command(reading, path, task, _compile_template(reading, (*path, "exec_command"), task.exec_command, known))
    templates = [
        _compile_template(reading, (*path, "exec_args", index), text, known)
        for index, text in enumerate(task.exec_args)
    ]
    for name, text in task.env.items():
        _compile_template(reading, (*path, "env", name), text, known)
        if name.startswith("ECHELON_"):
            place = reading.find_key((*path, "env", name))
            reading.add_mistake(place, f"{name} is Echelon's own variable", "take another name")
    if task.label is not None:
        _check_label(reading, path, task)
    _warn_of_script(reading, path, task, templates)
    check_script(reading, path, task)
    leading = {template.leading for template in templates if template is not None and template.leading is not None}
    return replace(task, leading=frozenset(leading & task.input.keys()))


def _compile_template(reading: Reading, path: Path, text: str, known: frozenset[str] | None) -> Template | None:
    try:
        return compile_template(text, known)
    except TemplateError as error:
        place = reading.find_text(path, text, error.offset)
        reading.add_mistake(place, f"{join_path(path)}: {error}", error.remedy)
        return None


def _check_label(reading: Reading, path: Path, task: TaskClass) -> None:
    """Note what is wrong with a label: the controller fills it in, which knows no worker and no attempt."""
    here, text = (*path, "label"), task.label or ""
    template = _compile_template(reading, here, text, BUILTIN_NAMES | task.input.keys())
    shown = {"index", *(one.name for one in task.input.values() if one.source is not InputSource.ENVIRONMENT)}
    if template is None:
        return
    for name in sorted(template.names - shown):
        message = f"{join_path(here)}: a label is made before a worker has the task, and cannot hold {name!r}"
        reading.add_mistake(reading.find_text(here, text, template.offset_of(name)), message, "leave it out")


def _check_command(reading: Reading, path: Path, task: TaskClass, template: Template | None) -> None:
    if not task.exec_command:
        return
    place = reading.find_value((*path, "exec_command"))
    if (line := find_command_line(task.exec_command, task.exec_args)) is not None:
        message = "exec_command is the name of one program, spaces included; no shell splits it"
        reading.add_mistake(place, f"{join_path((*path, 'exec_command'))}: {message}", line)
        return
    if template is not None and any(_could_be_code(task, name) for name in template.names):
        message = "the value of a placeholder here chooses the program that runs"
        reading.add_warning(place, message, "name the program, or give the input an enum")
    words = task.exec_command.split()
    if len(words) > 1 and template is not None and not template.names and "/" not in words[0]:
        remedy = f"write `exec_command: {words[0]}` and the rest as exec_args, or `sh` with `-c`"
        reading.add_warning(
            place, "exec_command is the name of one program, spaces included; no shell splits it", remedy
        )


def _warn_of_script(reading: Reading, path: Path, task: TaskClass, templates: list[Template | None]) -> None:
    found = script_position([task.exec_command, *task.exec_args])
    if found is None or found == 0:
        return
    index = found - 1
    template = templates[index]
    if template is None:
        return
    for name in sorted(template.names):
        if _could_be_code(task, name):
            text = task.exec_args[index]
            place = reading.find_text((*path, "exec_args", index), text, template.offset_of(name))
            message = f"the value of {name!r} becomes part of a script, where it could act as code"
            reading.add_warning(place, message, safe_form(name, index, len(task.exec_args)))


def _could_be_code(task: TaskClass, name: str) -> bool:
    definition = task.input.get(name)
    if definition is None or definition.type in _HARMLESS_TYPES:
        return False
    choices = definition.enum
    return choices is None or not all(_HARMLESS_WORD.fullmatch(to_text(choice)) for choice in choices)


def warn_of_secrets(reading: Reading, task: TaskClass, secret: Iterable[str]) -> None:
    """Warn of secrets in arguments: every user of the machine can read them in the list of processes."""
    for index, text in enumerate(task.exec_args):
        try:
            names = compile_template(text, None).names & frozenset(secret)
        except TemplateError:
            continue
        for name in sorted(names):
            place = reading.find_value(("tasks", task.task_class, "exec_args", index))
            message = f"the secret {name!r} stands in the list of processes while the task runs"
            reading.add_warning(
                place, message, "give it as a variable under `env:` if the program can read it from there"
            )
