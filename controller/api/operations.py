"""Routes for those who run Echelon, at the root: does the process live, can it work, and its figures."""

from __future__ import annotations

import marshmallow
from flask import Response
from marshmallow import fields
from prometheus_client import CONTENT_TYPE_LATEST

from echelon.controller.api import problems, render
from echelon.controller.api.config import context, jobs
from echelon.controller.api.routes import Answer, Routes
from echelon.controller.api.schemas import text_field

routes = Routes("operations", "Health and metrics.", prefix="")


class AliveSchema(marshmallow.Schema):
    """The process answers."""

    status = text_field("ok")


class PartSchema(marshmallow.Schema):
    """One of the systems that a controller leans on."""

    name = text_field("store, broker, volume, catalogue, worker.")
    ok = fields.Boolean(required=True)
    detail = text_field("What is wrong, or what it is.")


class HealthSchema(marshmallow.Schema):
    """The condition of a controller."""

    ready = fields.Boolean(required=True)
    parts = fields.List(fields.Nested(PartSchema), required=True)


@routes.get("/healthz", Answer(AliveSchema, description="The process answers."))
def healthz() -> Response:
    """Tell that the process lives; asks nothing else."""
    return render.answer({"status": "ok"})


@routes.get("/readyz", Answer(HealthSchema, description="Jobs can be taken and run."))
def readyz() -> Response:
    """Tell whether jobs can be taken and run, and what stands in the way or is worth a warning."""
    health = jobs().health()
    parts = [{"name": part.name, "ok": part.ok, "detail": part.detail} for part in health.parts]
    if health.ready:
        return render.answer({"ready": True, "parts": parts})
    wrong = "; ".join(f"{part.name}: {part.detail}" for part in health.parts if part.needed and not part.ok)
    retry = {"Retry-After": str(problems.RETRY_AFTER)}
    return problems.problem(503, wrong, headers=retry, more={"ready": False, "parts": parts})


@routes.get("/metrics", Answer(None, content_type="text/plain", description="Figures in Prometheus' own format."))
def metrics() -> Response:
    """Tell the figures of the engine and of this interface, for Prometheus."""
    return Response(context().metrics(), content_type=CONTENT_TYPE_LATEST)
