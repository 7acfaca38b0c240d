"""The controller as a WSGI application: `create_app(jobs, settings)`. Builds nothing but the interface."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from flask import Flask

from echelon.controller.api import (
    artefacts,
    cluster,
    config,
    control,
    definitions,
    gate,
    jobs,
    logs,
    operations,
    problems,
    pruning,
    reasons,
    routes,
    stages,
    tasks,
)
from echelon.controller.api.config import ApiSettings
from echelon.controller.api.figures import RequestFigures
from echelon.controller.api.page import page
from echelon.controller.api.unserved import ServedQueues
from echelon.controller.datastore.records import WorkerView
from echelon.controller.engine.jobs import Jobs

__all__ = ["ApiSettings", "create_app"]

#: The routes of the interface, in the order of its description.
_PARTS = [
    jobs.routes,
    stages.routes,
    tasks.routes,
    control.routes,
    reasons.routes,
    logs.routes,
    artefacts.routes,
    definitions.routes,
    cluster.routes,
    operations.routes,
    pruning.routes,
]


def create_app(jobs_: Jobs, settings: ApiSettings) -> Flask:
    """Return the interface to the use cases. Once per `Jobs`: it adds to its registry of figures."""
    app = Flask("echelon", static_folder=None, template_folder=None)
    app.config.update(
        API_TITLE="Echelon",
        API_VERSION=_version(),
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
        API_SPEC_OPTIONS={
            "info": {"description": "Jobs of stages, stages of parallel tasks."},
            "security": routes.SECURITY,
        },
        MAX_CONTENT_LENGTH=settings.max_body,
    )
    app.url_map.converters["path"] = routes.AnyPath
    # A path with two slashes is another path, not one to be sent elsewhere; one slash more at the end is not.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    figures = RequestFigures(jobs_, lost_after=settings.lost_after)
    served_queues = ServedQueues(lambda: _workers(jobs_, settings), lambda: jobs_.is_broker_connected)
    config.install_context(app.extensions, config.Context(jobs_, settings, served_queues, figures.render_figures))
    gate.install_gate(app, figures)
    routes.register_routes(app, _PARTS)
    app.register_blueprint(page)
    problems.register_handlers(app)
    return app


def _workers(jobs_: Jobs, settings: ApiSettings) -> list[WorkerView]:
    with jobs_.store.read() as reader:
        return reader.list_workers(lost_after=settings.lost_after)


def _version() -> str:
    try:
        return version("echelon")
    except PackageNotFoundError:
        # From a source tree that is not installed.
        return "0"
