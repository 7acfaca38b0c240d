"""The page to try the interface at, served from this machine: static files, no script of anybody else."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

_FILES = Path(__file__).parent / "static"
_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

page = Blueprint("docs", __name__)


# With a slash at the end, its links would lead elsewhere.
@page.get("/docs", strict_slashes=True)
def docs() -> Response:
    """Return the page."""
    return _file("docs.html")


@page.get("/docs/<any('docs.css', 'docs.js'):name>")
def docs_file(name: str) -> Response:
    """Return what the page needs."""
    return _file(name)


def _file(name: str) -> Response:
    response = send_from_directory(_FILES, name)
    response.headers["Content-Security-Policy"] = _POLICY
    return response
