"""Requests and answers over HTTP, with the library `requests`; its exceptions are translated here."""

from __future__ import annotations

import codecs
import ipaddress
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from urllib.parse import urlsplit

import requests

from echelon.controller.client.errors import Rejected, ServerFault, Unreachable, from_problem

#: Maximum number of seconds that a controller waits before it answers.
_WAIT_AT_MOST = 60.0
_CONNECT_TIMEOUT = 5.0
_PIECE = 64 * 1024

Answer = dict[str, object]


class Transport:
    """Sends requests to one controller and reads its answers."""

    def __init__(self, url: str, *, token: str | None, user: str | None, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._session = requests.Session()
        # An Authorization of ~/.netrc would look like a job's header input.
        self._session.auth = _keep_headers
        # A proxy cannot reach this machine.
        self._session.trust_env = not _is_loopback(url)
        if token:
            # Authorization stays free for jobs that take it as an input.
            self._session.headers["X-Echelon-Token"] = token
        if user:
            self._session.headers["X-Echelon-User"] = user

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get_json(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        wait: float | None = None,
        also: Iterable[int] = (),
    ) -> Answer:
        """Return the JSON of a GET; the statuses in `also` are no errors."""
        with self._send_request("GET", path, query=query, wait=wait, also=also) as response:
            return _read_json(response)

    def post_json(
        self,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the JSON of a POST."""
        with self._send_request("POST", path, query=query, body=body, headers=headers) as response:
            return _read_json(response)

    def delete_json(self, path: str) -> Answer:
        """Return the JSON of a DELETE."""
        with self._send_request("DELETE", path) as response:
            return _read_json(response)

    def post_keyed(
        self, path: str, body: object, headers: Mapping[str, str], key: str | None, wait: float | None
    ) -> Answer:
        """Return the JSON of a POST with an idempotency key; repeated once if the answer is lost."""
        keyed = {**headers, "Idempotency-Key": key or str(uuid.uuid4())}
        try:
            with self._send_request("POST", path, body=body, headers=keyed, wait=wait) as response:
                return _read_json(response)
        except Unreachable:
            with self._send_request("POST", path, body=body, headers=keyed, wait=wait) as response:
                return _read_json(response)

    def stream_text(self, path: str, query: Mapping[str, object]) -> Iterator[str]:
        """Yield a text as it arrives."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in self.stream_bytes(path, query):
            if text := decoder.decode(piece):
                yield text
        if rest := decoder.decode(b"", final=True):
            yield rest

    def stream_bytes(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[bytes]:
        """Yield the bytes of an answer as they arrive."""
        with self._send_request("GET", path, query=query, stream=True) as response, _translate_errors(self._url):
            # With a size, a slow answer would be held back until a piece is full.
            yield from response.iter_content(chunk_size=None)

    def save_file(self, path: str, target: Path) -> int:
        """Save an answer as a file, whole or not at all; return its size in bytes."""
        name = target.with_name(f".{target.name[:50]}.{uuid.uuid4().hex}")
        try:
            with name.open("xb") as file:
                size = sum(file.write(piece) for piece in self.stream_bytes(path))
            os.replace(name, target)
        except BaseException:
            with suppress(FileNotFoundError):
                name.unlink()
            raise
        return size

    @contextmanager
    def _send_request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        wait: float | None = None,
        stream: bool = False,
        also: Iterable[int] = (),
    ) -> Iterator[requests.Response]:
        data = None if body is None else _write_json(body)
        sent = dict(headers or {}) if data is None else {"Content-Type": "application/json", **(headers or {})}
        patience = self._timeout
        if wait is not None and wait > 0:
            sent["Prefer"] = f"wait={min(wait, _WAIT_AT_MOST):.0f}"
            patience += min(wait, _WAIT_AT_MOST)
        with _translate_errors(self._url):
            response = self._session.request(
                method,
                self._url + path,
                params={name: _as_parameter(value) for name, value in (query or {}).items() if value is not None},
                data=data,
                headers=sent,
                # A followed log may be silent for hours.
                timeout=(_CONNECT_TIMEOUT, None if stream else patience),
                stream=stream,
                allow_redirects=False,
            )
        with response:
            if response.status_code >= 300 and response.status_code not in also:
                with _translate_errors(self._url):
                    raise from_problem(response.status_code, _read_problem(response))
            yield response


def _write_json(body: object) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, default=_replace_value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Rejected(f"the request cannot be written as JSON: {error}") from error


def _replace_value(value: object) -> object:
    """Return what stands for a path or for a mapping that is no dict."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    # The value may be a secret.
    raise TypeError(f"a value of the type {type(value).__name__} is not JSON")


def _as_parameter(value: object) -> str | list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value)


@contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    try:
        yield
    except requests.exceptions.InvalidHeader as error:
        raise Rejected(f"a header cannot be sent: {error}") from error
    except (
        requests.exceptions.InvalidURL,
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidSchema,
    ) as error:
        raise Unreachable(
            f"{url!r} is not the address of a controller; write for example http://127.0.0.1:8080"
        ) from error
    except requests.exceptions.Timeout as error:
        raise Unreachable(f"the controller at {url} does not answer in time") from error
    except requests.exceptions.RequestException as error:
        raise Unreachable(f"no controller answers at {url}: {_innermost_reason(error)}") from error


def _innermost_reason(error: requests.exceptions.RequestException) -> str:
    """Return the message of the innermost cause: the outer ones name classes of urllib3."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    return str(inner.strerror if isinstance(inner, OSError) and inner.strerror else inner)


def _read_json(response: requests.Response) -> Answer:
    try:
        answer = response.json()
    except ValueError as error:
        raise ServerFault(f"{response.url} does not answer with JSON: is it a controller?") from error
    if not isinstance(answer, dict):
        raise ServerFault(f"{response.url} answers with JSON that is not an object: is it a controller?")
    return answer


def _read_problem(response: requests.Response) -> Answer:
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return {"detail": f"{response.url} answered with status {response.status_code} {response.reason}"}
    return _read_json(response)


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
