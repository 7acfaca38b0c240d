"""Start a small file server on this machine and run the job `request-data` against it.

    python3 example/run_request_data.py

Arguments are handed on to `echelon run` (`--volume D`, `--slots N`, ...). The exit code is that of `echelon run`.
"""

import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
CREDENTIALS = "Basic YWRhOmxvdmVsYWNl"
NAMES = ["readings.csv", "stations.csv", "notes.txt", "lost.bin"]
FILES = {
    "readings.csv": "".join(f"{hour:02d}:00,{20 + hour % 7}\n" for hour in range(24)),
    "stations.csv": "north\nsouth\n",
    "notes.txt": "All stations were up.\n",
}


class FileServer(BaseHTTPRequestHandler):
    """Answers `POST /exports/ID` with a list of files, and hands a file to whoever has the credentials."""

    def do_POST(self) -> None:
        """List the files of an export; `lost.bin` is listed, but not there."""
        base = f"http://{self.headers['Host']}{self.path}"
        urls = ", ".join(f'"{base}/{name}"' for name in NAMES)
        self.answer(201, f'{{"files": [{urls}]}}')

    def do_GET(self) -> None:
        """Send one file."""
        body = FILES.get(self.path.rpartition("/")[2])
        if self.headers["Authorization"] != CREDENTIALS:
            self.answer(401, "Who are you?\n")
        elif body is None:
            self.answer(404, "There is no such file.\n")
        else:
            self.answer(200, body)

    def answer(self, status: int, body: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        """Say nothing: the job's own progress is on the screen."""


def main() -> int:
    """Serve on a free port for as long as the job runs; return its exit code."""
    beside = Path(sys.executable).parent / "echelon"
    echelon = str(beside) if beside.exists() else shutil.which("echelon") or str(HERE.parent / ".venv/bin/echelon")
    with ThreadingHTTPServer(("127.0.0.1", 0), FileServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        command = [echelon, "run", str(HERE / "task_job_config.yaml"), "request-data"]
        command += ["-p", "data_id=42", "-H", f"Authorization: {CREDENTIALS}", *sys.argv[1:]]
        done = subprocess.run(command, env={**os.environ, "REST_ENDPOINT": endpoint, "LOG_LEVEL": "info"}, check=False)
        server.shutdown()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
