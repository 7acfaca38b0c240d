"""Fetch one file: `download.py URL FOLDER`, with the credentials from the variable BASIC_AUTH."""

import os
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request

url, folder = sys.argv[1:]
name = os.path.basename(urllib.parse.urlsplit(url).path)
target = os.path.join(folder, name)
os.makedirs(folder, exist_ok=True)

request = urllib.request.Request(url, headers={"Authorization": os.environ["BASIC_AUTH"]})
try:
    with urllib.request.urlopen(request, timeout=30) as answer, open(f"{target}.part", "wb") as file:
        shutil.copyfileobj(answer, file)
except urllib.error.URLError as error:
    sys.exit(f"{url}: {error}")
# Under its own name only when it is whole.
os.replace(f"{target}.part", target)
print(f"{target}: {os.path.getsize(target)} bytes")
