"""Many commits to one collection at once, as many clients make them; run by bench/remote.py with ARTFS_SERVER set.

    python bench/committing.py COMMITS PROJECT COLLECTION FOLDER

Prints "SECONDS COMMITS" and checks that the versions are v0, v1, … without a gap, and all different.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from artfs.api.session import open_session
from artfs.model.records import NewVersion
from artfs.settings import load_settings
from artfs.transfer.push import push_entries, push_file


def main(commits: int, project: str, collection: str, folder: str) -> None:
    settings = load_settings()
    together = threading.Barrier(commits)
    with open_session(settings) as session:

        def commit(number: int) -> int:
            path = f"{folder}/{number}"
            with open(path, "w") as stream:
                stream.write(f"the file of commit {number}\n")
            with session.store.begin(("local", project)) as batch:
                built = push_entries(batch, {"file": push_file(batch, path)})
                batch.sync()
                together.wait()
                totals = built.totals
                new = NewVersion("local", project, collection, "dataset", built.root, totals.size, totals.file_count)
                return session.catalog.commit(new).member.index

        session.catalog.create_project("local", project)
        with ThreadPoolExecutor(commits) as pool:
            begin = time.perf_counter()
            indices = sorted(pool.map(commit, range(commits)))
            seconds = time.perf_counter() - begin
        assert indices == list(range(commits)), indices
        found = session.catalog.try_collection("local", project, collection)
        assert found is not None
        members = session.catalog.members(found.id)
        assert len({member.version.digest for member in members}) == commits
    print(f"{seconds:.6f} {commits}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4])
