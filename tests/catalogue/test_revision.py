"""What a revision is made of, and the JSON Schema of the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from echelon.controller.catalogue import files
from echelon.controller.catalogue.jsonschema import json_schema
from echelon.controller.catalogue.loader import load_catalogue
from echelon.shared.volume.bundles import install_bundle
from tests.catalogue.original import ORIGINAL, loading


def revision(folder: Path) -> str:
    return load_catalogue([folder / "c.yaml"]).require_valid().revision


@pytest.fixture
def brought(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text("tasks: {t: {exec_command: x}}\n")
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "a.py").write_text("1")
    (tmp_path / "files" / "sub" / "b").write_text("2")
    return tmp_path


def test_the_folder_of_files_is_part_of_the_revision(brought: Path) -> None:
    catalogue = load_catalogue([brought / "c.yaml"]).require_valid()
    assert catalogue.files == brought / "files"

    seen = {catalogue.revision}
    (brought / "files" / "a.py").write_text("3")
    seen.add(revision(brought))
    (brought / "files" / "a.py").chmod(0o755)
    seen.add(revision(brought))
    (brought / "files" / "sub" / "b").rename(brought / "files" / "b")
    seen.add(revision(brought))

    assert len(seen) == 4


def test_comments_links_and_caches_do_not_change_the_revision(brought: Path) -> None:
    before = revision(brought)

    (brought / "c.yaml").write_text("# hello\ntasks:\n  t:\n    exec_command: 'x'\n")
    (brought / "files" / "__pycache__").mkdir()
    (brought / "files" / "__pycache__" / "a.pyc").write_text("x")
    (brought / "files" / ".git").mkdir()
    (brought / "files" / ".git" / "HEAD").write_text("x")
    for litter in (".a.py.swp", "a.py~", "#a.py#", ".DS_Store"):
        (brought / "files" / litter).write_text("x")
    # Of Emacs: it names who edits the file.
    (brought / "files" / ".#a.py").symlink_to("ada@host.1234:1")
    (brought / "files" / ".echelonignore").write_text("# mine\n*.bak\nsub/c\n/drafts/\n")
    (brought / "files" / "a.bak").write_text("x")
    (brought / "files" / "sub" / "c").write_text("x")
    (brought / "files" / "drafts").mkdir()
    (brought / "files" / "drafts" / "d").write_text("x")

    assert revision(brought) == before
    assert load_catalogue([brought / "c.yaml"]).warnings == ()


def test_a_copy_holds_what_the_revision_counts(brought: Path, tmp_path: Path) -> None:
    (brought / "files" / "same.py").symlink_to("a.py")
    (brought / "files" / ".#a.py").symlink_to("ada@host.1234:1")
    (brought / "files" / "again").symlink_to("sub")
    before = revision(brought)

    install_bundle(str(brought / "files"), str(tmp_path / "copy"))

    assert files.digest_folder(tmp_path / "copy") == files.digest_folder(brought / "files")
    (brought / "files" / "a.py").write_text("changed")
    assert revision(brought) != before


def test_a_link_to_nothing_is_a_warning_that_names_it(brought: Path) -> None:
    (brought / "files" / "old.py").symlink_to("gone.py")

    loaded = load_catalogue([brought / "c.yaml"])

    assert loaded.catalogue is not None
    (warning,) = loaded.warnings
    assert "files/old.py: is a link to nothing" in str(warning)
    (brought / "files" / ".echelonignore").write_text("old.py\n")
    assert load_catalogue([brought / "c.yaml"]).warnings == ()


@pytest.mark.parametrize(("target", "said"), [("/etc/passwd", "leads out of"), ("/etc", "leads out"), ("..", "leads")])
def test_a_link_that_cannot_be_brought_along_is_a_mistake(brought: Path, target: str, said: str) -> None:
    (brought / "files" / "sub" / "link").symlink_to(target)

    (mistake,) = load_catalogue([brought / "c.yaml"]).mistakes

    assert said in mistake.message and "sub/link" in mistake.message


def test_a_pipe_cannot_be_brought_along(brought: Path) -> None:
    os.mkfifo(brought / "files" / "pipe")

    (mistake,) = load_catalogue([brought / "c.yaml"]).mistakes

    assert "only files and folders can be brought along" in mistake.message


def test_too_many_files_are_a_mistake(brought: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 1)

    (mistake,) = load_catalogue([brought / "c.yaml"]).mistakes

    assert "more than 1 files" in mistake.message


def test_two_folders_of_files_are_a_mistake(brought: Path) -> None:
    (brought / "other" / "files").mkdir(parents=True)
    (brought / "other" / "d.yaml").write_text("tasks: {u: {exec_command: x}}\n")

    (mistake,) = load_catalogue([brought / "c.yaml", brought / "other"]).mistakes

    assert "another such folder" in mistake.message


# --- JSON Schema


def test_the_json_schema_is_closed_and_describes_every_key() -> None:
    schema = json_schema()

    objects = [schema, *schema["$defs"].values()]  # type: ignore[attr-defined]  # JSON
    assert all(one["additionalProperties"] is False for one in objects)
    keys = {key: shape for one in objects for key, shape in one["properties"].items()}
    assert [key for key, shape in keys.items() if not shape.get("description")] == []
    assert {
        "tasks",
        "jobs",
        "exec_args",
        "source_type",
        "allow_leading_dash",
        "max_delay",
        "max_parallel",
    } <= keys.keys()


def test_the_json_schema_accepts_what_the_loader_accepts() -> None:
    validators = pytest.importorskip("jsonschema_rs")
    yaml = pytest.importorskip("yaml")
    validator = validators.validator_for(json_schema())
    text = ORIGINAL.replace("{url}", "'{url}'").replace("{output_path}", "'{output_path}'")

    assert validator.is_valid(yaml.safe_load(text))
    assert not validator.is_valid(yaml.safe_load(text.replace("exec_args", "exec_arg")))
    assert not validator.is_valid(yaml.safe_load("jobs: {j: {stages: []}}"))
    for bound in (0, 5, "5%", "100%", "5", "101%", -1):
        stages = [{"task_class": "t", "max_failed": bound}]
        assert validator.is_valid({"jobs": {"j": {"stages": stages}}}) is (bound in (0, 5, "5%", "100%"))


def test_a_catalogue_without_files_has_none(tmp_path: Path) -> None:
    catalogue = loading(tmp_path, ORIGINAL).require_valid()

    assert (catalogue.files, catalogue.files_digest) == (None, None)
