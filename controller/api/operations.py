"""Routes for those who run Echelon, at the root: does the process live, can it work, and its figures."""

from __future__ import annotations

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from echelon.controller import shapes
from echelon.controller.api import problems, render
from echelon.controller.api.config import get_context, get_jobs
from echelon.controller.api.routes import RouteAnswer, Routes

routes = Routes("operations", "Health and metrics.", prefix="")


@routes.add_get("/healthz", RouteAnswer(shapes.Alive, description="The process answers."), needs_token=False)
def get_liveness() -> Response:
    """Tell that the process lives; asks nothing else."""
    return render.make_answer({"status": "ok"})


@routes.add_get("/readyz", RouteAnswer(shapes.Readiness, description="Jobs can be accepted."))
def get_readiness() -> Response:
    """Tell whether jobs can be accepted, what stands in the way, and whether tasks wait for workers."""
    health = get_jobs().check_health()
    readiness = render.fill_shape(shapes.Readiness, health)
    if health.ready:
        return render.make_answer(readiness)
    wrong = "; ".join(f"{part.name}: {part.detail}" for part in health.parts if part.needed and not part.ok)
    retry = {"Retry-After": str(problems.RETRY_AFTER)}
    return problems.make_problem(503, wrong, headers=retry, more=readiness)


@routes.add_get(
    "/metrics", RouteAnswer(None, content_type="text/plain", description="Figures in Prometheus' own format.")
)
def get_metrics() -> Response:
    """Tell the figures of the engine and of this interface, for Prometheus."""
    return Response(get_context().metrics(), content_type=CONTENT_TYPE_LATEST)
