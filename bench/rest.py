"""A client of the REST interface that costs little: one kept connection and the standard library.

The end of a job is heard by a held-back answer (`Prefer: wait`), so nobody polls while the engine works.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_ENDED = ("COMPLETED", "FAILED", "CANCELLED")
_API = "/api/v1"
#: Seconds that one answer may be held back.
_WAIT = 60


class Rest:
    """One connection to one controller."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=2 * _WAIT)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def submit(self, job_type: str, values: Mapping[str, object] | None = None) -> str:
        """Submit a job and return its id; it is on disk then."""
        body = json.dumps({"type": job_type, "input": values or {}})
        return str(self._json("POST", "/jobs", body, {"Content-Type": "application/json"})["job_id"])

    def job(self, job_id: str, *, wait: bool = False) -> dict[str, Any]:
        """Return a job; with `wait` when it has ended, or after a minute."""
        return self._json("GET", f"/jobs/{job_id}", None, {"Prefer": f"wait={_WAIT}"} if wait else {})

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        """Return the answer to a request that changes something."""
        if body is None:
            return self._json("POST", path, None, {})
        return self._json("POST", path, json.dumps(body), {"Content-Type": "application/json"})

    def completed(self, job_id: str) -> None:
        """Return when the stored state of a job is final; anything but COMPLETED is an error."""
        while (job := self.job(job_id, wait=True))["state"] not in _ENDED:
            pass
        if job["state"] != "COMPLETED":
            raise RuntimeError(f"the job ended as {job['state']}: {job['error']}")

    def page(self, path: str) -> dict[str, Any]:
        """Return a page of a list."""
        return self._json("GET", path, None, {})

    def log(self, job_id: str) -> str:
        """Return what a job's tasks wrote."""
        return self._exchange("GET", f"/jobs/{job_id}/log", None, {}).decode()

    def workers_up(self) -> int:
        """Return how many workers have told that they live; none while the controller is not ready."""
        try:
            self._exchange("GET", "/readyz", None, {}, base="")
            return sum(worker["state"] == "UP" for worker in self.page("/workers")["items"])
        except (OSError, RuntimeError, http.client.HTTPException):
            self._connection.close()
            return 0

    def _json(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._exchange(method, path, body, headers))
        return answer

    def _exchange(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str], *, base: str = _API
    ) -> bytes:
        self._connection.request(method, base + path, body, dict(headers))
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path} is answered with {response.status}: {content.decode()[:500]}")
        return content
