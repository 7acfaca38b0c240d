"""Route that removes jobs that ended long ago."""

from __future__ import annotations

from typing import Any

import marshmallow
from flask import Response
from marshmallow import fields, validate

from echelon.controller import shapes
from echelon.controller.api import render
from echelon.controller.api.config import get_jobs
from echelon.controller.api.inline import TrueOrFalse
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.api.schemas import TextField, describe_field
from echelon.controller.engine.base.requests import Prune

#: Jobs of one answer, and seconds after which it is given with fewer.
_JOBS, _SECONDS = 200, 2.0
#: A hundred years.
_LONGEST = 100 * 366 * 86400.0

routes = Routes("pruning", "Removing many ended jobs.")


class _Seconds(fields.Float):
    """A number of seconds, and not a text or a boolean."""

    def _validated(self, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class PruneSchema(marshmallow.Schema):
    """Which jobs go."""

    older_than = _Seconds(
        required=True,
        validate=validate.Range(min=0, max=_LONGEST),
        **describe_field("Seconds since their end."),
    )
    type = TextField(200, load_default=None, allow_none=True, **describe_field("Only jobs of this type."))
    dry_run = TrueOrFalse(load_default=False, **describe_field("Remove nothing, only count and measure."))
    after = fields.Integer(
        strict=True,
        load_default=None,
        allow_none=True,
        validate=validate.Range(min=0, max=2**62),
        **describe_field("The `next` of the answer before."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> Prune:
        after = -1 if data["after"] is None else data["after"]
        return Prune(data["older_than"], data["type"], data["dry_run"], after)


@routes.add_route(
    "POST", "/prune", [RouteAnswer(shapes.PrunedJobs, description="What is gone, or would go.")], body=PruneSchema
)
def prune_jobs(body: Prune) -> Response:
    """Remove ended jobs with their logs and files; repeat the call with `after` until `next` is null."""
    pruned = get_jobs().prune_jobs(body, limit=_JOBS, seconds=_SECONDS)
    return render.make_answer(render.fill_shape(shapes.PrunedJobs, pruned))
