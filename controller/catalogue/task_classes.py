"""The records of a task class: inputs, command, retries. Each field says how people write it: see `keys`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

from echelon.controller.catalogue.keys import described
from echelon.controller.catalogue.kinds import (
    Amount,
    Anything,
    Argument,
    Duration,
    Flag,
    Items,
    Named,
    Record,
    TextValue,
    Word,
)
from echelon.shared.messages import JsonValue

DEFAULT_QUEUE = "default"
#: Seconds between SIGTERM and SIGKILL.
DEFAULT_GRACE = 5.0
#: Names of inputs: what a placeholder can hold.
INPUT_NAME = TextValue(
    form=r"[A-Za-z_][A-Za-z0-9_.-]*", saying="letters, digits, _ . and -, a letter or _ first", longest=100
)
PRIORITY = Amount(whole=True, least=0, most=9)
#: Characters of a script, or of a file that a command brings along: it travels in a message with each order.
MAX_SCRIPT = 65_536
_FILE_NAME = TextValue(
    form=r"(?!(?:output|script|spawn\.json|work)$)[A-Za-z0-9_][A-Za-z0-9_.-]*",
    saying="letters, digits, _ . and -; not output, script, spawn.json or work",
    longest=100,
)
_VARIABLE_NAME = TextValue(form=r"[^=\x00]+", saying="write the name of a variable", longest=200)


class InputSource(StrEnum):
    """Where the value of an input comes from."""

    PARAMETER = "parameter"
    #: The environment of the worker that runs the task.
    ENVIRONMENT = "environment"
    #: A header of the request that submits the job.
    HTTP_HEADER = "http-header"


class InputType(StrEnum):
    """The type of an input's value."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class InputDefinition:
    """An input of a task or of a job."""

    name: str
    source: InputSource = described(
        Word({str(one): one for one in InputSource}),
        "`parameter`: given with the job, or by a spawn task. `http-header` (jobs only): a header of the request "
        "that submits the job. `environment` (tasks only): a variable of the worker that runs the task.",
        InputSource.PARAMETER,
        alias="source_type",
    )
    key: str = described(
        TextValue(form=r"[^\s:=\x00]+", saying="write the name of a header or of a variable"),
        "Name of the header or of the variable; the case of a header does not matter.",
        "",
        usual="the input's name",
    )
    description: str | None = described(TextValue(), "What the value is, for people.", None)
    type: InputType | None = described(
        Word({str(one): one for one in InputType}),
        "What the value must be: `string`, `integer`, `number`, `boolean` or `json`.",
        None,
        usual="text, a number or a boolean",
    )
    #: False when it has a default.
    required: bool = True
    default: JsonValue = described(
        Anything(allow_none=True), "The value when none is given; an input without a default is required.", None
    )
    enum: tuple[JsonValue, ...] | None = described(Items(Anything()), "The only values that are accepted.", None)
    pattern: str | None = described(
        TextValue(longest=1000),
        "A regular expression that the whole value matches, in the syntax of "
        "[RE2](https://github.com/google/re2/wiki/Syntax): `\\w`, `\\d`, `\\s` and `\\b` are about ASCII characters, "
        "`\\p{L}` is a letter of any script; no look-around, no reference to a group.",
        None,
    )
    minimum: float | None = described(Amount(), "The least number that is accepted.", None)
    maximum: float | None = described(Amount(), "The greatest number that is accepted.", None)
    secret: bool = described(
        Flag(),
        "The value is stored encrypted, masked wherever people could see it, and erased when the job has ended. "
        "The same holds for a value that a spawn task writes.",
        False,
        usual="`true` for a header, else `false`",
    )
    allow_leading_dash: bool = described(
        Flag(), "The value may begin an argument with `-`, and could be read as an option there.", False
    )


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempts after a failed one, and the waits before them."""

    limit: int = described(Amount(whole=True, least=0, most=1000), "Additional attempts.", 0)
    delay: float = described(Duration(), "Wait before the first of them.", 1.0)
    factor: float = described(Amount(least=1, most=1000), "Each later wait is this many times the one before.", 2.0)
    max_delay: float = described(Duration(), "The longest wait.", 300.0)


TITLE = TextValue(longest=200, allow_none=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command and how it runs: the same keys in a task class and in a task that a request composes."""

    ONE_OF: ClassVar[tuple[str, ...]] = ("exec_command", "run")

    exec_command: str = described(
        Argument(form=r"[\s\S]+", saying="write a command"),
        "The program to run: a name that `PATH` finds, or a path. No shell sees it. "
        "Each command has this key or `run`.",
        "",
        usual="none",
    )
    exec_args: tuple[str, ...] = described(
        Items(Argument(), allow_none=True),
        "Its arguments, one list item each; never split, never seen by a shell. `{name}` is filled in, `\\{` is a "
        "literal brace.",
        (),
    )
    run: str | None = described(
        TextValue(form=r"[\s\S]*\S[\s\S]*", saying="write a script", longest=MAX_SCRIPT),
        "A script, instead of a program. It is never filled in: each input is a variable of its environment "
        '(`"$sample"`), so no value can become code. A script that begins with `#!` chooses its own interpreter.',
        None,
    )
    shell: tuple[str, ...] = described(
        Items(TextValue(form=r"[\s\S]+", saying="write a word"), least=1),
        "The program that runs the script, and its options: `[bash, -euo, pipefail]`, `[python3]`.",
        ("sh", "-e"),
        usual="`[sh, -e]`",
    )
    files: dict[str, str] = described(
        Named(_FILE_NAME, TextValue(longest=MAX_SCRIPT)),
        "Small files in the folder of each attempt, `$ECHELON_TASK_DIR`: name and content, which is never filled in. "
        "All can be executed.",
        factory=dict,
    )
    env: dict[str, str] = described(
        Named(_VARIABLE_NAME, Argument(), allow_none=True),
        "Environment variables of the process; `{name}` is filled in.",
        factory=dict,
    )
    label: str | None = described(
        Argument(longest=200),
        'What people see of a task, filled in like an argument with its inputs and its `{index}`: `"{sample}"`.',
        None,
        usual="the values of its item",
    )
    queue: str = described(
        TextValue(form=r"[A-Za-z0-9_][A-Za-z0-9_.-]*", saying="letters, digits, _ . and -", longest=64),
        "Only workers that subscribe to this queue run the task.",
        DEFAULT_QUEUE,
    )
    priority: int | None = described(
        PRIORITY,
        "From 0 to 9: of the tasks that wait in a queue, those of a higher priority start first. It stands over the "
        "job's.",
        None,
        usual="the job's",
    )
    #: Seconds; None: no limit.
    timeout: float | None = described(
        Duration(positive=True),
        "When an attempt takes longer, its process tree is ended, and the attempt has failed.",
        None,
    )
    grace: float = described(Duration(), "Time between SIGTERM and SIGKILL when a task is ended.", DEFAULT_GRACE)
    retry: Retry = described(
        Record(Retry, example="retry: {limit: 2}"), "What follows a failed attempt.", Retry(), usual="none"
    )
    workdir: Literal["job", "task"] = described(
        Word({"job": "job", "task": "task"}),
        "`job`: the task runs in the job's workspace. `task`: in a folder of its attempt; its files move into the "
        "workspace when, and only when, the attempt counts. The attempt has failed if a file has no place there, "
        "because a folder has its name.",
        "job",
    )


@dataclass(frozen=True, slots=True)
class TaskClass(Command):
    """A task class: the definition of a task."""

    #: Its key in the catalogue.
    task_class: str
    name: str | None = described(TITLE, "A title for people.", None)
    description: str | None = described(TextValue(allow_none=True), "What the task does, for people.", None)
    input: dict[str, InputDefinition] = described(
        Named(INPUT_NAME, Record(InputDefinition, allow_none=True), allow_none=True),
        "The inputs of the task; `{name}` stands for a value in the command, its arguments and its variables.",
        factory=dict,
    )
    #: Inputs whose placeholders begin an argument.
    leading: frozenset[str] = frozenset()

    @property
    def secret(self) -> frozenset[str]:
        """Return the inputs whose values are secret."""
        return frozenset(name for name, one in self.input.items() if one.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineCommand(Command):
    """A command that the request brings; only where the controller allows it (`allow_inline_commands`)."""

    paused: bool = described(Flag(), "It does not begin until a person resumes it.", False)
