"""Checks of every request: token, host, origin and content type; and the headers of every answer.

A controller on a loopback address without a token trusts the people of the machine, not the web pages that their
browsers show: the Host header shuts out DNS rebinding, Origin and the content type shut out forged forms.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import re
import time
import uuid

from flask import Flask, Response, g, request

from echelon.controller.api.config import get_context
from echelon.controller.api.figures import RequestFigures
from echelon.controller.api.headers import REPEATED, TOKEN, USER
from echelon.controller.api.problems import Refusal
from echelon.shared.logs import ACCESS, log_facts

#: Asked by what watches over the process, which has no token.
_OPEN_ENDPOINT = "operations.get_liveness"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
#: Of these a second one could only be meant to deceive.
_SINGLE = (
    "authorization", "idempotency-key", "origin", TOKEN.lower(), USER.lower(), "content-type", "range", "x-request-id",
)  # fmt: skip
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def install_gate(app: Flask, figures: RequestFigures) -> None:
    """Put the gate in front of an application."""
    app.before_request(_check_request)

    @app.after_request
    def leave(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-ID"] = g.request_id
        route = request.url_rule.rule if request.url_rule else "none"
        seconds = time.monotonic() - g.began
        figures.count_request(_known_method(request.method), route, response.status_code, seconds)
        if ACCESS.isEnabledFor(logging.INFO):
            _log_request(response.status_code, seconds)
        return response


def _log_request(status: int, seconds: float) -> None:
    # Without the query: it may hold values that belong into no log.
    fact = {
        "event": "request",
        "method": request.method,
        "path": request.path,
        "status": status,
        "seconds": round(seconds, 4),
        "client": request.remote_addr,
        "request_id": g.request_id,
    }
    log_facts(ACCESS, logging.INFO, [fact])


def _check_request() -> None:
    g.began = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
    g.authorization_is_ours = False
    _check_host()
    _check_repeats()
    _check_token()
    if request.method not in _READS:
        _check_origin()
        _check_body()


def _check_host() -> None:
    hosts = get_context().settings.hosts
    if hosts is None:
        return
    name = re.sub(r":\d*$", "", request.headers.get("Host", "")).lower()
    if name not in hosts:
        raise Refusal(421, "the Host header does not name this machine; set a token to allow other names")


def _check_repeats() -> None:
    if noted := request.headers.get(REPEATED):
        lowered = noted.lower()
        for name in _SINGLE:
            if f'"{name}":' in lowered:
                raise Refusal(400, f"the header {name} was sent more than once")


def _check_token() -> None:
    token = get_context().settings.token
    if not token or request.endpoint == _OPEN_ENDPOINT:
        return
    shown = request.headers.get("Authorization", "")
    # Ours, not an input of the job: a task must never see it.
    g.authorization_is_ours = _tokens_match(_read_bearer_token(shown), token)
    if not g.authorization_is_ours and not _tokens_match(request.headers.get(TOKEN, ""), token):
        # Basic lets a browser ask for the token, so that /docs can be used.
        challenge = {"WWW-Authenticate": 'Bearer realm="Echelon", Basic realm="Echelon: the token is the password"'}
        raise Refusal(401, f"show the controller's token, in {TOKEN} or as a bearer token", headers=challenge)


def _read_bearer_token(authorization: str) -> str:
    """Return the token that an Authorization header holds: as a bearer, or as the password of any user."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode("latin-1").partition(":")[2]
        except binascii.Error:
            return ""
    return ""


def _tokens_match(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "replace"), token.encode())


def _check_origin() -> None:
    """Refuse what a page of another origin makes a browser send."""
    origin = request.headers.get("Origin")
    # The host alone: behind a proxy that ends TLS our own scheme would be wrong.
    if origin is not None and origin.partition("://")[2].lower() != request.headers.get("Host", "").lower():
        raise Refusal(403, "the request comes from a page of another origin")
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise Refusal(403, "the request comes from a page of another site")


def _check_body() -> None:
    """Refuse bodies that are not JSON: a form of any page could send those."""
    has_body = bool(request.content_length) or "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    if (has_body or request.content_type) and request.mimetype != "application/json":
        raise Refusal(415, "send the body as application/json")
    encoding = request.headers.get("Content-Encoding", "identity")
    if has_body and encoding.strip().lower() not in ("", "identity"):
        raise Refusal(415, "send the body as it is, without Content-Encoding")


def _known_method(method: str) -> str:
    """Return a method as a label: what clients invent must not grow the figures."""
    return method if method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE", "PUT", "PATCH") else "other"
