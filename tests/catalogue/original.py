"""The example that the system was first described with, traps included, and a way to load a text."""

from __future__ import annotations

from pathlib import Path

from echelon.controller.catalogue.loader import LoadedCatalogue, load_catalogue

ORIGINAL = """\
---
  tasks:
    export-data:
      name: Export Data
      description: Exports and serializes the data described by the given id
      input:
        data_id:
          description: The id of the data to be exported
          source: parameter
        REST_ENDPOINT:
          description: The endpoint of the server
          source: environment
      exec_command: serialize_data
      exec_args:
      - "--data_id"
      - "{data_id}"
      - "--endpoint"
      - "{REST_ENDPOINT}"
    spawn_download_tasks:
      name: Spawn Download Tasks
      description: Creates the spawn.json for the download tasks
      exec_command: python3
      exec_args:
      - "create_download_tasks.py"
    download:
      name: Download file
      description: Downloads a single file from a given url
      exec_command: wget
      input:
        url:
          description: The url of the file to be downloaded
          source: parameter
        basic_auth:
          description: The basic authentication credentials
          source: parameter
        output_path:
          description: The path where the file should be stored
          source: parameter
      exec_args:
      - -d
      - >
        "--header=Authorization: {basic_auth}"
      - {url}
      - -P
      - {output_path}
  jobs:
    request-data:
      name: Requests Data
      input:
        data_id:
          description: The id of the data to be exported
          source: parameter
        basic_auth:
          description: The basic authentication credentials
          source: http-header
          key: Authorization
      stages:
      - name: Request Data
        task_class: export-data
        job_failed_on_error: true
      - name: Download Data
        spawn_task: spawn_download_tasks
        task_class: download
        job_failed_on_error: false
"""


def loading(folder: Path, text: str, name: str = "catalogue.yaml") -> LoadedCatalogue:
    """Load a text as a file of a folder."""
    (folder / name).write_text(text, encoding="utf-8")
    return load_catalogue([folder / name])
