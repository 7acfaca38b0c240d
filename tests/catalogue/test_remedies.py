"""Each remedy that is printed for a common slip is applied to the file it was printed for; then the file is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from echelon.controller.catalogue.loader import load_catalogue
from echelon.controller.catalogue.mistakes import Mistake

HEAD = "tasks:\n  t:\n    input: {level: {type: integer}, path: }\n"


def first_of(file: Path) -> Mistake | None:
    """Return the first thing that is wrong with a catalogue, or that could be better."""
    loaded = load_catalogue([file])
    return next(iter((*loaded.mistakes, *loaded.warnings)), None)


def apply_remedy(text: str, found: Mistake, folder: Path) -> str:
    """Take the step that the remedy names, in the folder or in the line of the mistake; return the text after it."""
    lines = text.split("\n")
    line, remedy = lines[found.line - 1], found.remedy or ""
    indent = re.match(r"[ -]*", line)[0]  # type: ignore[index]
    if spaces := re.match(r"begin it with (\d+) spaces, as line (\d+) does", remedy):
        assert re.match(r" *(- )*", lines[int(spaces[2]) - 1])
        line = " " * int(spaces[1]) + line.lstrip()
    elif pair := re.fullmatch(r"write `(exec_command: .*)` and `(exec_args: .*)`", remedy):
        line = f"{indent}{pair[1]}\n{indent}{pair[2]}"
        lines = [one for one in lines if not one.strip().startswith("exec_args:")]
    elif quoted := re.match(r"write ('.*')(: in double|$)", remedy):
        line = line.replace(f'"{quoted[1][1:-1]}"', quoted[1])
    elif name := re.match(r"write ([\w./]+): what is in files/", remedy):
        line = line.replace(f"files/{name[1]}", name[1])
    elif name := re.match(r"put ([\w./]+) into files/", remedy):
        (folder / "files").mkdir(exist_ok=True)
        (folder / "files" / name[1]).write_text("")
    elif name := re.match(r"did you mean (\S+)\?", remedy):
        line = re.sub(r"[\w.]+\.py", name[1], line)
    elif (whole := re.match(r"write ((?:- )?(?:[\w-]+: )?\[.*)", remedy)) or (
        whole := re.match(r"put quotes around it: (.*)", remedy)
    ):
        line = f"{re.match(' *', line)[0]}{whole[1]}"  # type: ignore[index]
    else:
        raise AssertionError(f"no way to apply {remedy!r}")
    lines[found.line - 1] = line
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (
            HEAD + "    exec_command: gzip -k -{level} {path}\n",
            'write `exec_command: gzip` and `exec_args: [-k, "-{level}", "{path}"]`',
        ),
        (
            HEAD + "    exec_command: tar -czf\n    exec_args: [out.tgz, '{path}']\n",
            'write `exec_command: tar` and `exec_args: [-czf, out.tgz, "{path}"]`',
        ),
        (
            HEAD + "    exec_command: zcat {path} | head -{level} > top.txt\n",
            (
                "write `exec_command: sh` and `exec_args: "
                '[-c, \'zcat "$1" | head -"$2" > top.txt\', sh, "{path}", "{level}"]`'
            ),
        ),
        (
            HEAD + "    exec_command: python3 -c 'print(1)'\n",
            'write `exec_command: python3` and `exec_args: [-c, "print(1)"]`',
        ),
        (HEAD + "    exec_command: echo\n   exec_args: ['{path}']\n", "begin it with 4 spaces, as line 4 does"),
        (HEAD + "    exec_command: echo\n      exec_args: ['{path}']\n", "begin it with 4 spaces, as line 4 does"),
        ("tasks:\n  t:\n     exec_command: echo\n    exec_args: [a]\n", "begin it with 5 spaces, as line 3 does"),
        (
            "tasks:\n  t: {exec_command: echo}\njobs:\n  j:\n    stages:\n    - name: A\n     task_class: t\n",
            "begin it with 6 spaces, as line 6 does",
        ),
        (
            "tasks:\n  t:\n    exec_command: echo\n   u:\n    exec_command: echo\n",
            "begin it with 2 spaces, as line 2 does",
        ),
        (
            "tasks: {t: {exec_command: x}}\njobs:\n  j:\n    stages:\n    - {task_class: t}\n      - {task_class: t}\n",
            "begin it with 4 spaces, as line 5 does",
        ),
        (
            HEAD + "    exec_command: gzip\n    exec_args: [-k, {path}.gz, 'a,b']\n",
            "write exec_args: [-k, \"{path}.gz\", 'a,b']",
        ),
        (
            HEAD + '    exec_command: type\n    exec_args: ["C:\\data\\new"]\n',
            "write 'C:\\data\\new': in double quotes a backslash has a meaning of its own",
        ),
        (HEAD + '    exec_command: ls\n    exec_args: ["C:\\tools\\new"]\n', "write 'C:\\tools\\new'"),
        (HEAD + "    exec_command: echo\n    exec_args:\n    - {path}.gz\n", "put quotes around it: - '{path}.gz'"),
        (HEAD + "    exec_command: python3\n    exec_args: [files/make.py]\n", None),
        (HEAD + "    exec_command: python3\n    exec_args: [mke.py, '{path}']\n", "did you mean make.py?"),
        (
            HEAD + "    exec_command: bash\n    exec_args: [analyse.sh, '{path}']\n",
            "put analyse.sh into files/ beside the catalogue, unless an earlier task makes it",
        ),
    ],
)
def test_a_remedy_applied_to_what_it_was_printed_for_makes_it_valid(
    tmp_path: Path, text: str, remedy: str | None
) -> None:
    file = tmp_path / "jobs.yaml"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "make.py").write_text("")
    file.write_text(text)

    found = first_of(file)
    assert found is not None and (remedy is None or found.remedy == remedy), found
    file.write_text(apply_remedy(text, found, tmp_path))

    assert first_of(file) is None, file.read_text()


def test_a_script_beside_the_catalogue_is_to_be_moved(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(HEAD + "    exec_command: ./run.sh\n")
    (tmp_path / "run.sh").write_text("")

    found = first_of(file)
    assert found is not None and found.remedy == "move run.sh into files/"
    (tmp_path / "files").mkdir()
    (tmp_path / "run.sh").rename(tmp_path / "files" / "run.sh")

    assert first_of(file) is None


@pytest.mark.parametrize(
    "text",
    [
        # A program whose name holds a space, a shell, a script of another folder, a script that a task makes elsewhere.
        HEAD + "    exec_command: /opt/my program/x\n",
        HEAD + "    exec_command: sh\n    exec_args: [-c, 'echo \"$1\"', sh, '{path}']\n",
        HEAD + "    exec_command: python3\n    exec_args: [/opt/x.py]\n",
        HEAD + "    exec_command: python3\n    exec_args: [-m, x.py]\n",
        HEAD + "    exec_command: make\n    workdir: task\n    exec_args: [x.py]\n",
        HEAD + "    exec_command: '\\\\host\\share'\n    exec_args: [\"a: b\", 'C:\\temp']\n",
        HEAD + "    exec_command: sh\n    exec_args:\n    - -c\n    - |\n      if true; then\n       a: b\n      fi\n",
    ],
)
def test_what_is_right_is_not_complained_about(tmp_path: Path, text: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(text)

    assert first_of(file) is None
