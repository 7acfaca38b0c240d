"""Ties a view to its route, query, body, answer and the problems it may answer with: checked and documented.

The one place that touches flask-smorest, which brings no types along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import marshmallow
from flask import Blueprint, Flask, Response
from flask_smorest import Api
from flask_smorest import Blueprint as DocumentedBlueprint
from werkzeug.routing import PathConverter

from echelon.controller import shapes
from echelon.controller.api import problems
from echelon.controller.api.bodies import StrictParser
from echelon.controller.api.headers import TOKEN
from echelon.controller.api.openapi import PREFIX as SCHEMAS
from echelon.controller.api.openapi import Schema, describe_shape

PREFIX = "/api/v1"
#: How a request shows the token of an engine that has one.
SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The engine's token."},
    "token": {
        "type": "apiKey", "in": "header", "name": TOKEN,
        "description": "The engine's token, where `Authorization` is an input of a job.",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "Any user, with the engine's token as the password."},
}  # fmt: skip
#: Any of them, or none: an engine may have no token.
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"token": []}, {"basic": []}, {}]
#: Statuses of any route: a bad Host or Origin, a missing token, a fault, a system that is unavailable.
_ANYWHERE = (400, 401, 421, 500, 503)

View = TypeVar("View", bound=Callable[..., Response])


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """A successful answer of a route."""

    #: One of `shapes`; None: no JSON.
    shape: object | None
    status: int = 200
    description: str = "Good."
    content_type: str = "application/json"
    #: Another type of the same content that it may come with.
    or_content_type: str | None = None
    #: Headers of the answer, with what they say.
    headers: Mapping[str, str] | None = None


TEXT = RouteAnswer(None, content_type="text/plain", description="The text.", headers={"Accept-Ranges": "bytes"})
PART_OF_TEXT = RouteAnswer(
    None, 206, "The part that was asked for.", "text/plain", headers={"Content-Range": "Which part it is."}
)


class AnyPath(PathConverter):
    """A path within a workspace: a file's name may hold a line end, which Werkzeug's own does not take."""

    regex = r"[^/](?s:.*?)"


class Routes:
    """The routes of one part of the interface."""

    def __init__(self, name: str, description: str, prefix: str = PREFIX) -> None:
        self._blueprint = DocumentedBlueprint(name, __name__, url_prefix=prefix or None, description=description)
        self._blueprint.ARGUMENTS_PARSER = StrictParser()
        self._blueprint._prepare_doc_cbks.append(_join_parameters)
        #: Schemas that the answers of these routes need, by name.
        self.components: dict[str, Schema] = {}

    def add_get(self, path: str, answer: RouteAnswer, **more: Any) -> Callable[[View], View]:
        """Register a view of GET; see `add_route`."""
        return self.add_route("GET", path, [answer], **more)

    def add_route(
        self,
        method: str,
        path: str,
        answers: Sequence[RouteAnswer],
        *,
        query: type[marshmallow.Schema] | None = None,
        body: type[marshmallow.Schema] | marshmallow.Schema | None = None,
        body_required: bool = True,
        any_body: Mapping[str, object] | None = None,
        refuses: Sequence[int] = (),
        headers: Mapping[str, str] | None = None,
        needs_token: bool = True,
        examples: Mapping[str, object] | None = None,
    ) -> Callable[[View], View]:
        """Register a view: it is called with the query (if any), the body (if any) and the path's values by name.

        `any_body` is the JSON schema of a body that the view reads itself. `refuses` are the statuses of problems
        beyond those that any route may answer with; `headers` documents request headers that mean something.
        """
        statuses = {*refuses, *_ANYWHERE} | ({422} if query or body or any_body else set())
        if method != "GET":
            statuses |= {403, 413, 415}
        if any(answer.shape is None for answer in answers):
            statuses |= {416}

        def decorate(view: View) -> View:
            made = self._document_view(view, method, answers, statuses)
            # Schemas are made here, once: from their classes one would be made for each request.
            if body:
                made = self._blueprint.arguments(_make_schema(body), required=body_required)(made)
            if query:
                made = self._blueprint.arguments(_make_schema(query), location="query")(made)
            made = self._blueprint.doc(**_document_request(view.__name__, any_body, examples, headers, needs_token))(
                made
            )
            registered: View = self._blueprint.route(path, methods=[method])(made)
            return registered

        return decorate

    def _document_view(self, view: Any, method: str, answers: Sequence[RouteAnswer], refusals: set[int]) -> Any:
        """Return a view with what it answers written on it."""
        for answer in answers:
            view = self._document_answer(answer)(view)
            if method == "GET" and "ETag" in (answer.headers or {}):
                view = self._blueprint.alt_response(304, description="As it was (If-None-Match).")(view)
        for status in sorted(refusals):
            schema, text = self._add_shape(shapes.Problem), _describe_refusal(status)
            view = self._blueprint.alt_response(
                status, schema=schema, content_type=problems.CONTENT_TYPE, description=text
            )(view)
        return view

    def _document_answer(self, answer: RouteAnswer) -> Callable[[Any], Any]:
        headers = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in (answer.headers or {}).items()
        }
        text = answer.content_type.startswith("text/")
        content = {"type": "string"} if text else {"type": "string", "format": "binary"}
        decorator: Callable[[Any], Any] = self._blueprint.response(
            answer.status,
            self._add_shape(answer.shape) if answer.shape else content,
            content_type=answer.content_type,
            description=answer.description,
            headers=headers or None,
        )
        if answer.or_content_type is None:
            return decorator
        other = {"content": {answer.or_content_type: {"schema": content}}}
        also = self._blueprint.doc(responses={answer.status: other})
        return lambda view: also(decorator(view))

    def _add_shape(self, shape: object) -> Schema:
        reference, components = describe_shape(shape)
        self.components |= components
        return reference

    @property
    def blueprint(self) -> Blueprint:
        """Return the blueprint that holds them."""
        made: Blueprint = self._blueprint
        return made


def register_routes(app: Flask, parts: Sequence[Routes]) -> None:
    """Register the routes with an application, and the OpenAPI document that describes them."""
    api = Api(app)
    # The decorators document every status; a default response would hide one that is missing.
    api.DEFAULT_ERROR_RESPONSE_NAME = None
    for part in parts:
        api.register_blueprint(part.blueprint)
    components = {name: schema for part in parts for name, schema in part.components.items()}
    for name, schema in components.items():
        api.spec.components.schema(name, schema)
    for name, scheme in SECURITY_SCHEMES.items():
        api.spec.components.security_scheme(name, scheme)
    _drop_unused_schemas(api.spec)


def _drop_unused_schemas(spec: Any) -> None:
    """Remove the schemas that flask-smorest brings along for errors and pages of its own."""
    document = json.dumps(spec.to_dict())
    for name in [name for name in spec.components.schemas if f'"{SCHEMAS}{name}"' not in document]:
        del spec.components.schemas[name]


def _join_parameters(doc: dict[str, Any], known: dict[str, Any], **_: object) -> dict[str, Any]:
    """Add the headers of a request to the parameters of its query, which flask-smorest would put them in place of."""
    headers = known.get("manual_doc", {}).pop("parameters", [])
    return {**doc, "parameters": [*doc.get("parameters", []), *headers]} if headers else doc


def _document_request(
    name: str,
    any_body: Mapping[str, object] | None,
    examples: Mapping[str, object] | None,
    headers: Mapping[str, str] | None,
    needs_token: bool,
) -> dict[str, object]:
    # Generators make the names of functions of the operation's: a change breaks programs.
    made: dict[str, object] = {"operationId": name}
    if any_body:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": any_body}}}
    if examples:
        shown = {name: {"value": value} for name, value in examples.items()}
        made["requestBody"] = {"content": {"application/json": {"examples": shown}}}
    if headers:
        made["parameters"] = [_header_parameter(*one) for one in headers.items()]
    if not needs_token:
        made["security"] = []
    return made


def _make_schema(schema: type[marshmallow.Schema] | marshmallow.Schema) -> marshmallow.Schema:
    return schema() if isinstance(schema, type) else schema


def _header_parameter(name: str, text: str) -> dict[str, object]:
    return {"in": "header", "name": name, "description": text, "required": False, "schema": {"type": "string"}}


def _describe_refusal(status: int) -> str:
    return {
        400: "The request is malformed.",
        401: "The token is missing or wrong.",
        403: "The request comes from a page of another origin.",
        404: "There is nothing with this id or name.",
        409: "The present state forbids it.",
        412: "It has changed since it was read: If-Match holds an old ETag.",
        413: "The body is too large.",
        415: "The body is not application/json.",
        416: "The range lies outside of the content.",
        421: "The Host header does not name this machine.",
        422: "A value cannot be used; `errors` points at each.",
        429: "There are as many open jobs as allowed; try again after Retry-After seconds.",
        500: "Echelon failed; its log has the details.",
        503: "A system that Echelon depends on is unavailable; try again after Retry-After seconds.",
    }[status]
