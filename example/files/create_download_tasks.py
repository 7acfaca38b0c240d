"""Turn the server's answer into spawn.json: one download task per file."""

import json
import os

with open("export.json", encoding="utf-8") as file:
    urls = json.load(file)["files"]

with open(os.environ["ECHELON_SPAWN_FILE"], "w", encoding="utf-8") as file:
    json.dump([{"url": url, "output_path": "./downloaded_files"} for url in urls], file)
print(f"{len(urls)} files to download")
