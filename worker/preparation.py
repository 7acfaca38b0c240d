"""Prepares launches from grants: gathers inputs, opens secrets, fills placeholders, and checks the result.

Work that the attempts of a grant share is done once per grant, and that of a task class once per revision. Values are
untrusted: a value that no command can get raises CannotStart, whose message names the input and never contains the
value of a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from echelon.shared.errors import InvalidInput
from echelon.shared.expressions import Template, check_argument, compile_template, render_argument, to_text
from echelon.shared.ids import JobId
from echelon.shared.messages import AttemptRef, Grant, GrantedTask, JsonValue, Recipe
from echelon.shared.sealing import CannotOpen, Seal, Sealer
from echelon.shared.volume import workspace_name
from echelon.shared.volume.layout import attempts_name, stage_name
from echelon.worker.environment import RESERVED, base_environment, read_inputs
from echelon.worker.folders import NO_FILES, Files
from echelon.worker.output import Masker
from echelon.worker.runtimes.port import CannotStart, Launch

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Cached grants, and cached recipes.
_CACHED: Final = 64


class Places(msgspec.Struct, frozen=True):
    """Absolute paths of one attempt."""

    #: ECHELON_TASK_DIR.
    folder: str
    #: Its working directory.
    working: str

    @property
    def output_file(self) -> str:
        """The file for its result."""
        return f"{self.folder}/output"

    @property
    def spawn_file(self) -> str:
        """The file for a spawn task's items."""
        return f"{self.folder}/spawn.json"


@dataclass(frozen=True, slots=True)
class Compiled:
    """The templates of one recipe."""

    recipe: Recipe
    command: Template
    arguments: tuple[Template, ...]
    env: dict[str, Template]
    #: For the folder of each attempt.
    files: Files


@dataclass(frozen=True, slots=True)
class PreparedGrant:
    """The data that the attempts of one grant share."""

    grant: Grant
    compiled: Compiled
    #: Values of all inputs except the task's own.
    scope: dict[str, JsonValue]
    #: The task's environment except for the variables that differ between attempts.
    environment: dict[str, str]
    #: The same as NAME=value.
    entries: list[bytes]
    #: Variables whose values depend on inputs.
    variable: dict[str, Template]
    secrets: tuple[str, ...]
    masker: Masker
    #: Opens the secrets of single tasks, and seals the secrets of the items that they spawn.
    seal: Seal
    #: The volume's folder.
    root: str
    workspace: str
    #: Absolute paths of the folders of the job's attempts and of the stage's.
    attempts_folder: str
    stage_folder: str

    @property
    def recipe(self) -> Recipe:
        """The recipe of the grant's tasks."""
        return self.compiled.recipe


class Preparation:
    """Prepares the attempts of one worker. One thread uses it."""

    def __init__(
        self, *, root: str, sealer: Sealer, environ: Mapping[str, str], temporary: Callable[[JobId], str]
    ) -> None:
        """`root`: the volume's folder; `temporary`: returns the TMPDIR of a job's tasks."""
        self._root = root
        self._sealer = sealer
        self._environ = environ
        self._floor = base_environment(environ)
        self._temporary = temporary
        self._grants: dict[int, PreparedGrant] = {}
        self._compiled: dict[tuple[str, str], Compiled] = {}

    def get_prepared(self, grant: Grant) -> PreparedGrant:
        """Return the data that the attempts of a grant share; raise CannotStart."""
        known = self._grants.get(id(grant))
        if known is None:
            known = self._prepare_grant(grant)
            _evict_oldest(self._grants)
            # The cache holds the grant, so no other object can have its id.
            self._grants[id(grant)] = known
        return known

    def build_launch(self, prepared: PreparedGrant, task: GrantedTask, places: Places) -> tuple[Launch, Masker]:
        """Return the launch of one attempt and the masker of its secrets; raise CannotStart."""
        grant, recipe = prepared.grant, prepared.recipe
        own, masker = self._open_task_input(prepared, task)
        scope: dict[str, JsonValue] = {
            **prepared.scope,
            **own,
            "job_id": grant.job_id,
            "task_id": task.task_id,
            "index": task.index,
            "attempt": task.number or task.attempt,
            "stage": grant.stage_name,
            "job_dir": prepared.workspace,
            "task_dir": places.folder,
            "spawn_file": places.spawn_file,
            "output_file": places.output_file,
        }
        try:
            command = render_argument(prepared.compiled.command, scope, recipe.leading_dash)
            arguments = [
                render_argument(template, scope, recipe.leading_dash).encode()
                for template in prepared.compiled.arguments
            ]
            varied = {name: _render_value(template, scope) for name, template in prepared.variable.items()}
        except (InvalidInput, ValueError) as error:
            raise CannotStart(masker.mask_text(str(error))) from error
        entries = _encode_environment({**prepared.environment, **varied}) if varied else prepared.entries
        search = varied.get("PATH") or prepared.environment["PATH"]
        ref = AttemptRef(task.task_id, task.attempt)
        environment = _attempt_variables(task, places) + entries
        return Launch(ref, command.encode(), arguments, environment, search, places.working), masker

    def _prepare_grant(self, grant: Grant) -> PreparedGrant:
        recipe = grant.recipe
        from_environment = read_inputs(recipe.environment, self._environ)
        opened = {name: self._open_secret(name, sealed) for name, sealed in grant.sealed.items()}
        scope: dict[str, JsonValue] = {**from_environment, **grant.input, **opened}
        hidden = {entry.name for entry in recipe.environment if entry.secret} | recipe.secret | set(opened)
        secrets = tuple(to_text(scope[name]) for name in sorted(hidden) if name in scope)
        compiled = self._compile_recipe(grant.revision, recipe)
        workspace = f"{self._root}/{workspace_name(grant.job_id)}"
        environment = {
            **self._floor,
            "TMPDIR": self._temporary(grant.job_id),
            **{name: value for name, value in from_environment.items() if name not in RESERVED},
            **{name: template.render_text({}) for name, template in compiled.env.items() if not template.names},
            "ECHELON_JOB_ID": grant.job_id,
            "ECHELON_STAGE": grant.stage_name,
            "ECHELON_JOB_DIR": workspace,
        }
        return PreparedGrant(
            grant=grant,
            compiled=compiled,
            scope=scope,
            environment=environment,
            entries=_encode_environment(environment),
            variable={name: template for name, template in compiled.env.items() if template.names},
            secrets=secrets,
            masker=Masker(secrets),
            seal=self._open_seal(grant),
            root=self._root,
            workspace=workspace,
            attempts_folder=f"{self._root}/{attempts_name(grant.job_id)}",
            stage_folder=f"{self._root}/{stage_name(grant.job_id, grant.stage)}",
        )

    def _compile_recipe(self, revision: str, recipe: Recipe) -> Compiled:
        key = (revision, recipe.task_class)
        known = self._compiled.get(key)
        if known is not None and known.recipe == recipe:
            return known
        try:
            compiled = Compiled(
                recipe,
                compile_template(recipe.exec_command, None),
                tuple(compile_template(text, None) for text in recipe.exec_args),
                {name: compile_template(text, None) for name, text in recipe.env.items() if name not in RESERVED},
                Files({name: text.encode() for name, text in recipe.files.items()}, recipe.task_class)
                if recipe.files
                else NO_FILES,
            )
        except InvalidInput as error:
            raise CannotStart(f"task class {recipe.task_class!r}: {error}") from error
        _evict_oldest(self._compiled)
        self._compiled[key] = compiled
        return compiled

    def _open_task_input(self, prepared: PreparedGrant, task: GrantedTask) -> tuple[Mapping[str, JsonValue], Masker]:
        """Return the task's own input with opened secrets, and the masker of these and the job's secrets."""
        hidden = prepared.recipe.secret.intersection(task.input)
        if not hidden:
            return task.input, prepared.masker
        opened = {name: _open_task_secret(prepared, name, to_text(task.input[name])) for name in hidden}
        return {**task.input, **opened}, Masker([*prepared.secrets, *opened.values()])

    def _open_secret(self, name: str, sealed: str) -> str:
        try:
            return self._sealer.open_text(sealed)
        except CannotOpen as error:
            raise CannotStart(_ELSEWHERE.format(f"input {name!r}"), worker_fault=True) from error

    def _open_seal(self, grant: Grant) -> Seal:
        try:
            return self._sealer.open_seal(grant.seal)
        except (CannotOpen, ValueError) as error:
            raise CannotStart(_ELSEWHERE.format("of its job"), worker_fault=True) from error


_ELSEWHERE: Final = "the secret {} cannot be opened: it was sealed with another volume's key"


def _open_task_secret(prepared: PreparedGrant, name: str, sealed: str) -> str:
    try:
        return prepared.seal.open_text(sealed)
    except CannotOpen as error:
        if prepared.grant.seal is None:
            raise CannotStart(_ELSEWHERE.format(f"input {name!r}"), worker_fault=True) from error
        message = f"its own secret input {name!r} was erased when the job had ended: submit the job again"
        raise CannotStart(message) from error


def _attempt_variables(task: GrantedTask, places: Places) -> list[bytes]:
    """Return the variables that differ between attempts; the two that name the process's attempt come first."""
    return [
        f"ECHELON_TASK_ID={task.task_id}".encode(),
        b"ECHELON_CLAIM=%d" % task.attempt,
        b"ECHELON_ATTEMPT=%d" % (task.number or task.attempt),
        b"ECHELON_INDEX=%d" % task.index,
        f"ECHELON_TASK_DIR={places.folder}".encode(),
        f"ECHELON_OUTPUT={places.output_file}".encode(),
        f"ECHELON_SPAWN_FILE={places.spawn_file}".encode(),
    ]


def _render_value(template: Template, scope: Mapping[str, JsonValue]) -> str:
    value = template.render_text(scope)
    check_argument(value, template.names)
    return value


def _encode_environment(environment: Mapping[str, str]) -> list[bytes]:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise CannotStart(f"the environment variable {name!r} cannot be set: its name or its value is not valid")
    return [f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in environment.items()]


def _evict_oldest(cache: dict[Key, Value]) -> None:
    if len(cache) >= _CACHED:
        del cache[next(iter(cache))]
