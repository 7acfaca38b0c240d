"""Ask the server to export a set of data, and keep its answer: the list of files to fetch."""

import argparse
import logging
import shutil
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--data_id", required=True)
parser.add_argument("--endpoint", required=True)
parser.add_argument("--log_level", default="info")
options = parser.parse_args()
logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(message)s")

request = urllib.request.Request(f"{options.endpoint}/exports/{options.data_id}", method="POST")
with urllib.request.urlopen(request, timeout=30) as answer, open("export.json", "wb") as file:
    shutil.copyfileobj(answer, file)
logging.info("exported %s", options.data_id)
