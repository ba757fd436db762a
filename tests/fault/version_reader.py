"""Reads the files of a version again and again, whatever becomes of the mount, until its standard input ends.

    python version_reader.py FOLDER DIGESTS

DIGESTS is a JSON object, path -> digest. It says `READS n` at its end; a file that is read without an error and is not what it
should be is `WRONG path`.
"""

import hashlib
import json
import select
import sys
import time

folder, digests = sys.argv[1], json.loads(sys.argv[2])
reads = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for path, digest in digests.items():
        try:
            with open(f"{folder}/{path}", "rb") as stream:
                data = stream.read()
        except OSError:  # no daemon, for the moment
            time.sleep(0.02)
            continue
        reads += 1
        if hashlib.sha256(data).hexdigest() != digest:
            print("WRONG", path, flush=True)
print("READS", reads, flush=True)
