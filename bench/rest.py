"""A cheap client of the REST interface: one persistent connection and the standard library.

It waits for the end of a job with `Prefer: wait` instead of polling.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_ENDED = ("COMPLETED", "FAILED", "CANCELLED")
_API = "/api/v1"
#: Seconds of one `Prefer: wait`.
_WAIT = 60


class Rest:
    """One connection to one controller."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=2 * _WAIT)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def submit_job(self, job_type: str, values: Mapping[str, object] | None = None) -> str:
        """Submit a job and return its id. The job is then on disk."""
        body = json.dumps({"type": job_type, "input": values or {}})
        return str(self._request_json("POST", "/jobs", body, {"Content-Type": "application/json"})["job_id"])

    def get_job(self, job_id: str, *, wait: bool = False) -> dict[str, Any]:
        """Return a job; with `wait`, when it has ended or after a minute."""
        return self._request_json("GET", f"/jobs/{job_id}", None, {"Prefer": f"wait={_WAIT}"} if wait else {})

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        """Send a POST and return its answer."""
        if body is None:
            return self._request_json("POST", path, None, {})
        return self._request_json("POST", path, json.dumps(body), {"Content-Type": "application/json"})

    def wait_completed(self, job_id: str) -> None:
        """Return when the stored state of a job is final; anything but COMPLETED is an error."""
        while (job := self.get_job(job_id, wait=True))["state"] not in _ENDED:
            pass
        if job["state"] != "COMPLETED":
            raise RuntimeError(f"the job ended as {job['state']}: {job['error']}")

    def get_page(self, path: str) -> dict[str, Any]:
        """Return a page of a list."""
        return self._request_json("GET", path, None, {})

    def get_log(self, job_id: str) -> str:
        """Return the output of a job's tasks."""
        return self._send_request("GET", f"/jobs/{job_id}/log", None, {}).decode()

    def count_workers(self) -> int:
        """Return the number of workers that are UP, or 0 if the controller is not ready."""
        try:
            self._send_request("GET", "/readyz", None, {}, base="")
            return sum(worker["state"] == "UP" for worker in self.get_page("/workers")["items"])
        except (OSError, RuntimeError, http.client.HTTPException):
            self._connection.close()
            return 0

    def _request_json(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._send_request(method, path, body, headers))
        return answer

    def _send_request(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str], *, base: str = _API
    ) -> bytes:
        self._connection.request(method, base + path, body, dict(headers))
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path} got {response.status}: {content.decode()[:500]}")
        return content
