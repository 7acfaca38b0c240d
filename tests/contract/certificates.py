"""Certificates for servers of tests, by an authority of our own."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, as files."""

    file: Path
    key: Path


def make_authority(folder: Path, name: str) -> Certificate:
    """Make the certificate of an authority in a folder."""
    return _make(folder, name, "-addext", "keyUsage=critical,keyCertSign")


def issue(authority: Certificate, folder: Path, host: str) -> Certificate:
    """Make the certificate of a server that has just this name."""
    signed = ["-CA", str(authority.file), "-CAkey", str(authority.key)]
    return _make(folder, host, *signed, "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=CA:FALSE")


def _make(folder: Path, name: str, *arguments: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    command += ["-subj", f"/CN={name}", "-days", "2", "-out", str(made.file), "-keyout", str(made.key), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made
