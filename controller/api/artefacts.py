"""Routes of artefacts: the files that jobs leave. Every one may have been planted: nothing is followed or guessed."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from echelon.controller import shapes
from echelon.controller.api import render, schemas
from echelon.controller.api.archive import stream_archive
from echelon.controller.api.config import get_jobs
from echelon.controller.api.jobs import find_job
from echelon.controller.api.problems import Refusal, refuse_value
from echelon.controller.api.queries import PageQuery
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.datastore.records import JobView, RecordPage
from echelon.shared.ids import JobId
from echelon.shared.volume import OpenFile

routes = Routes("artefacts", "The files that jobs leave.")

_PIECE = 64 * 1024
_ZIP = "application/zip"
#: Generated programs know no other type of bytes.
_BYTES = "application/octet-stream"
_FILE = {
    "ETag": "Changes with the file.",
    "Accept-Ranges": "bytes",
    "Content-Disposition": "attachment, with the file's name.",
}


@routes.add_get(
    "/jobs/<uuid:job_id>/artefacts",
    RouteAnswer(shapes.JobArtefactPage, description="Files by path."),
    query=schemas.PageQuerySchema,
    refuses=[404, 409],
)
def list_artefacts(query: PageQuery, job_id: object) -> Response:
    """List the files that a job has left so far, by path."""
    job = _find_job_with_files(job_id)
    found = get_jobs().volume.find_artefacts(job.job_id, after=_decode_cursor(query.cursor), limit=query.limit)
    page = RecordPage(found.files, _encode_cursor(found.files[-1].path) if found.more else None)
    return render.make_page(page, partial(render.fill_shape, shapes.JobArtefact), left_out=found.left_out)


@routes.add_route(
    "GET",
    "/jobs/<uuid:job_id>/artefacts/<path:path>",
    [
        RouteAnswer(None, content_type=_BYTES, or_content_type="*/*", description="The file.", headers=_FILE),
        RouteAnswer(None, 206, content_type=_BYTES, or_content_type="*/*", description="The part that was asked for."),
    ],
    refuses=[404, 412],
    headers={
        "Range": "bytes=0-999: that part of the file.",
        "If-Match": "The ETag of the file: if it has changed since, the answer is 412.",
    },
)
def get_artefact(job_id: object, path: str) -> Response:
    """Return one file, always as a download."""
    job = _find_job_with_files(job_id)
    return _make_download(get_jobs().volume.open_artefact(job.job_id, path), path)


@routes.add_get(
    "/jobs/<uuid:job_id>/artefacts.zip",
    RouteAnswer(
        None,
        content_type=_ZIP,
        or_content_type=_BYTES,
        description="All files; as application/octet-stream if Accept asks for that.",
        headers={"Content-Disposition": "attachment"},
    ),
    refuses=[404, 409],
)
def get_artefacts_zip(job_id: object) -> Response:
    """Return all files as a zip archive, made while it is sent."""
    job = _find_job_with_files(job_id)
    volume = get_jobs().volume
    # The first piece now: a volume that is away must be an answer, not a broken archive.
    pieces = stream_archive(volume, job.job_id)
    first = next(pieces, b"")
    content_type = request.accept_mimetypes.best_match([_ZIP, _BYTES], default=_ZIP)
    response = Response(_chain_pieces(first, pieces), content_type=content_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{job.job_id}.zip"'
    response.headers["Accept-Ranges"] = "none"
    return response


def _find_job_with_files(job_id: object) -> JobView:
    """Return a job; who has seen a task COMPLETED finds its files."""
    job = find_job(JobId(str(job_id)))
    get_jobs().show_files(job.job_id)
    return job


def _make_download(found: OpenFile, path: str) -> Response:
    name = path.rpartition("/")[2]
    guessed = mimetypes.guess_type(name)[0] or _BYTES
    response = Response(FileWrapper(found.file, _PIECE), mimetype=guessed, direct_passthrough=True)
    response.content_length = found.size
    response.set_etag(f"{found.size:x}-{int((found.modified_at or 0.0) * 1_000_000):x}")
    if found.modified_at is not None:
        response.last_modified = datetime.fromtimestamp(int(found.modified_at), UTC)
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else "_" for letter in name
    )
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    # Should a browser show it after all, then without scripts, forms or our origin.
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    wanted = request.range
    servable = wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1
    try:
        # Any other range is one that may be overlooked; werkzeug would refuse it.
        response.make_conditional(request.environ, accept_ranges=servable, complete_length=found.size)
    except RequestedRangeNotSatisfiable:
        found.file.close()
        raise
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        found.file.close()
        raise Refusal(response.status_code, "the file is not as If-Match says; read it again")
    response.headers["Accept-Ranges"] = "bytes"
    return response


def _chain_pieces(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _encode_cursor(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        after = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise refuse_value("#/query/cursor", "this is not a cursor of ours") from error
    if "\0" in after:
        raise refuse_value("#/query/cursor", "this is not a cursor of ours")
    return after
