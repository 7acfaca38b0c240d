"""Clients that other programs make from the OpenAPI document work against a running engine."""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.system.process import Standalone

ROOT = Path(__file__).resolve().parents[2]
OTHER_GENERATOR = shutil.which("openapi-generator-cli", path=str(Path(sys.executable).parent))

Import = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    folder = Path(tmp_path_factory.mktemp("engine"))
    with Standalone(folder, (ROOT / "example" / "hello.yaml").read_text()) as made:
        yield made


@pytest.fixture
def document(engine: Standalone, tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    with urllib.request.urlopen(f"{engine.url}/openapi.json") as answer:
        file.write_bytes(answer.read())
    return file


def generate(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_client_made_by_openapi_python_client_works(
    engine: Standalone, document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("post_hooks: []")
    # Warnings tell of what the client would lack.
    generate(
        sys.executable, "-m", "openapi_python_client", "generate", "--path", document, "--meta", "none",
        "--output-path", tmp_path / "hello_client", "--config", tmp_path / "config.yaml", "--fail-on-warning",
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)

    def of(name: str) -> ModuleType:
        return importlib.import_module(f"hello_client.{name}")

    models = of("models")
    with of("client").Client(base_url=engine.url) as client:
        body = models.Submission(type_="hello", input_=models.SubmissionInput.from_dict({"name": "Ada"}))
        job = of("api.jobs.submit_job").sync(client=client, body=body, prefer="wait=60")
        assert (job.state, job.stages[1].counts.completed) == (models.JobState.COMPLETED, 1)
        assert of("api.jobs.get_job").sync(job.job_id, client=client).to_dict() == job.to_dict()
        assert job.job_id in [one.job_id for one in of("api.jobs.list_jobs").sync(client=client).items]

        files = of("api.artefacts.list_artefacts").sync(job.job_id, client=client).items
        assert [one.path for one in files] == ["hello.txt"]
        file = of("api.artefacts.get_artefact").sync(job.job_id, "hello.txt", client=client)
        assert file.payload.read() == b"Hello, Ada!\n"
        archive = of("api.artefacts.get_artefacts_zip").sync(job.job_id, client=client)
        assert zipfile.ZipFile(io.BytesIO(archive.payload.read())).namelist() == ["hello.txt"]
        assert "Hello, Ada!" in of("api.logs.get_job_log").sync(job.job_id, client=client)

        held = of("api.jobs.submit_job").sync(client=client, body=composed(models))
        assert of("api.reasons.explain_job").sync(held.job_id, client=client).code == "PAUSED"
        cancelled = of("api.control.cancel_job").sync(held.job_id, client=client)
        assert (cancelled.state, cancelled.changed.jobs) == (models.JobState.CANCELLED, 1)
        refused = of("api.control.pause_job").sync(held.job_id, client=client, if_match='"1"')
        assert (type(refused), refused.status) == (models.Problem, 412)

        later = job.to_dict() | {"new_in_a_later_release": 1}
        assert models.Job.from_dict(later).to_dict() == later


def composed(models: ModuleType) -> object:
    """Return a job that is composed in the request, held from its start."""
    task = models.ListedTask(task_class="write", input_=models.ListedTaskInput.from_dict({"name": "Grace"}))
    stage = models.ComposedStage(task_class="write", tasks=[task], max_failed="5%")
    return models.Submission(name="one", stages=[stage], paused=True)


@pytest.mark.slow
@pytest.mark.skipif(
    not (OTHER_GENERATOR and shutil.which("java")), reason="openapi-generator-cli or java is not installed"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_made_by_openapi_generator_works(
    engine: Standalone, document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(OTHER_GENERATOR, "validate", "-i", document, "--recommend")
    place = ("-o", tmp_path, "--package-name", "other_client")
    generate(OTHER_GENERATOR, "generate", "-g", "python", "-i", document, *place)
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("other_client")

    with made.ApiClient(made.Configuration(host=engine.url)) as client:
        jobs, files = made.JobsApi(client), made.ArtefactsApi(client)
        job = jobs.submit_job(made.Submission(type="hello", input={"name": "Ada"}), prefer="wait=60")
        assert (job.state, job.stages[1].counts.completed) == (made.JobState.COMPLETED, 1)
        assert jobs.get_job(job.job_id) == job
        assert bytes(files.get_artefact(job.job_id, "hello.txt")) == b"Hello, Ada!\n"
        assert zipfile.ZipFile(io.BytesIO(files.get_artefacts_zip(job.job_id))).namelist() == ["hello.txt"]

        task = made.ComposedStageTasksAnyOfInner(made.ListedTask(task_class="write", input={"name": "Grace"}))
        stage = made.ComposedStage(task_class="write", tasks=made.ComposedStageTasks([task]))
        held = jobs.submit_job(made.Submission(name="one", stages=[stage], paused=True))
        assert made.ControlApi(client).cancel_job(held.job_id).changed.jobs == 1
        with pytest.raises(made.ApiException) as refused:
            made.ControlApi(client).pause_job(held.job_id, if_match='"1"')
        assert refused.value.status == 412

        later = job.to_dict() | {"new_in_a_later_release": 1}
        assert made.Job.from_dict(later).to_dict() == later
