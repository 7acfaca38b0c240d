"""What `pip install` puts into site-packages, and that it works beside any folders of its user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "echelon", "controller", "worker", "shared")
#: A program as a user writes it, for the checker of types: each line with a comment is a mistake of theirs.
PROGRAM = """
from echelon import Client, NotFound

with Client("http://127.0.0.1:9") as client:
    job = client.get_job("x")
    state: str = job["state"]
    wrong: int = job["state"]  # the checker has to know the type
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )


def checked(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command that has to succeed and return its output."""
    done = run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the package is made of: builds write into it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def build_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has setuptools."""
    folder = tmp_path_factory.mktemp("build")
    checked(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    checked(python, "-m", "pip", "install", "-q", "setuptools>=77", cwd=folder)
    return python


def built(python: Path, checkout: Path, into: Path, kind: str) -> Path:
    """Build a wheel or an sdist as pip does, and return its file."""
    into.mkdir(exist_ok=True)
    call = f"import setuptools.build_meta as b, sys; print(b.build_{kind}(sys.argv[1]))"
    name = checked(python, "-c", call, into, cwd=checkout).splitlines()[-1]
    return into / name


@pytest.fixture(scope="module", params=["wheel", "sdist", "editable"])
def installed(
    request: pytest.FixtureRequest, checkout: Path, build_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the bin folder of an environment that has Echelon, installed in one of three ways, and no checkout."""
    folder = tmp_path_factory.mktemp(request.param)
    source = checkout if request.param == "editable" else built(build_environment, checkout, folder, request.param)
    checked(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    # The libraries are those of the environment that runs the tests; Echelon itself is found here first.
    libraries = folder / "libraries"
    libraries.mkdir()
    for found in {Path(path) for path in (*sys.path, sysconfig.get_path("purelib")) if path.endswith("site-packages")}:
        for library in found.iterdir():
            if "echelon" not in library.name and not library.name.endswith((".pth", ".egg-link")):
                (libraries / library.name).is_symlink() or (libraries / library.name).symlink_to(library)
    purelib = Path(checked(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (purelib / "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
    options = ["--no-deps", "--config-settings", "editable_mode=strict"]
    editable = ["-e"] if request.param == "editable" else []
    checked(python, "-m", "pip", "install", "-q", *options, *editable, source, cwd=folder)
    return python.parent


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Return a folder with packages of its user's that have the names of our folders."""
    for name in ("controller", "worker", "shared"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n", encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_the_command_and_the_client_work_beside_packages_of_the_same_names(installed: Path, crowded: Path) -> None:
    program = "import controller, worker, shared; assert controller.MINE and worker.MINE and shared.MINE; "
    program += "from echelon import Client, Unreachable; c = Client('http://127.0.0.1:9')\n"
    program += "try: c.get_job('0')\nexcept Unreachable: print('no controller there')"

    told = checked(installed / "echelon", "--help", cwd=crowded, PYTHONPATH=".")
    said = checked(installed / "python", "-c", program, cwd=crowded, PYTHONPATH=".")
    catalogue = ROOT / "example/hello.yaml"
    ran = checked(installed / "echelon", "run", catalogue, "hello", cwd=crowded, PYTHONPATH=".", HOME=str(crowded))

    assert "standalone" in told and "worker" in told
    assert said == "no controller there\n"
    assert "hello.txt" in ran


@pytest.mark.slow
def test_the_client_is_typed(installed: Path, crowded: Path) -> None:
    (crowded / "program.py").write_text(PROGRAM, encoding="utf-8")

    told = run(
        sys.executable, "-m", "mypy", "--python-executable", installed / "python", "--no-incremental", "program.py",
        cwd=crowded,
    ).stdout  # fmt: skip

    assert told.count("error:") == 1 and "program.py:7: error: Incompatible types in assignment" in told, told


@pytest.mark.slow
def test_nothing_but_echelon_gets_into_site_packages(checkout: Path, build_environment: Path, tmp_path: Path) -> None:
    wheel = built(build_environment, checkout, tmp_path, "wheel")

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {name.split("/")[0] for name in names} - {"echelon"} == {f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert "echelon/py.typed" in names and "echelon/controller/api/static/docs.js" in names


@pytest.mark.parametrize("folder", ["controller", "worker", "shared"])
def test_a_folder_of_the_checkout_cannot_be_imported_under_another_name(folder: str) -> None:
    done = run(sys.executable, "-c", f"import {folder}", cwd=ROOT)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: import echelon.{folder}, not {folder}")


def test_what_the_package_offers_is_there_and_nothing_else_pretends_to_be() -> None:
    import echelon

    assert [getattr(echelon, name).__name__.rpartition(".")[2] for name in echelon.__all__] == echelon.__all__
    assert echelon.__version__
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        echelon.Server  # noqa: B018
