"""A power cut while a draft is filled through the mount and committed: what its user has synced is there, with its bytes, and
what was committed is a whole version. The same of digests that were noted, and of the cache.

See test_power_cut.py for how.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from artfs.model.digests import BLOCK_SIZE, digest_bytes
from artfs.store import recovery
from artfs.store.cache import Cache
from artfs.store.staging import HashLog, record_for
from artfs.store.verify import hash_bytes
from artfs.testing.disks import SmallDisk
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.outside import StateFolder
from artfs.testing.powercut import Survival, restarted, signature
from artfs.testing.ranges import FakeSource
from artfs.testing.recordingdisk import RecordingDisk
from artfs.testing.store_contract import some_bytes
from artfs.testing.torture import Tally
from artfs.transfer.fetch import Fetcher

HERE = Path(__file__).parent
Artfs = Callable[..., subprocess.CompletedProcess[str]]


class DaemonOnRecordingDisk(Daemon):
    """See disk_daemon.py."""

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, str(HERE / "disk_daemon.py"), str(self.workspace.home), *arguments]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: what is synced there takes no time."""
    folder = Path(tempfile.mkdtemp(prefix="artfs-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def silence(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These tell of what was torn, if anything was."""
    for name in names:
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@dataclass
class Promised:
    """What a user knows, mark by mark: files that were synced, files with other bytes since (so any may be there), and that
    there is a version."""

    begun: bool = False
    synced: dict[str, str] = field(default_factory=dict)
    committing: bool = False
    committed: bool = False

    def hear(self, text: str) -> None:
        what, *rest = text.split()
        match what:
            case "begun":
                self.begun = True
            case "synced":
                self.synced[rest[0]] = rest[1]
            case "touched":
                self.synced.pop(rest[0], None)
            case "committing":
                self.committing = True
            case "committed":
                self.committed = True


def fill(draft: Path, disk: RecordingDisk, chance: random.Random) -> dict[str, str]:
    """Makes a draft and files in it, some of them synced, and says so to the disk. Returns what the draft holds then."""
    content = {}
    draft.mkdir(parents=True)
    disk.mark("begun")
    (draft / "d").mkdir()
    sync(draft)
    for number in range(8):
        path = draft / "d" / f"f{number}"
        data = some_bytes(chance.randint(1, 9000), seed=number)
        path.write_bytes(data)
        content[f"d/f{number}"] = digest_bytes(data)
        if number % 2:
            sync(path)
            sync(path.parent)
            disk.mark(f"synced d/f{number} {content[f'd/f{number}']}")
    for number in (1, 2):  # written over in place, as a database does it
        disk.mark(f"touched d/f{number}")
        with (draft / "d" / f"f{number}").open("r+b") as stream:
            stream.write(b"changed")
        content[f"d/f{number}"] = hashlib.sha256((draft / "d" / f"f{number}").read_bytes()).hexdigest()
    disk.mark("touched d/f3")
    (draft / "d" / "f3").rename(draft / "d" / "renamed")
    content["d/renamed"] = content.pop("d/f3")
    sync(draft / "d")
    disk.mark(f"synced d/renamed {content['d/renamed']}")
    return content


def test_what_was_synced_in_a_draft_survives_a_power_cut(
    workspace: Workspace, artfs: Artfs, tmp_path: Path, memory: Path, chance: random.Random,
    scale: Callable[[int, int], int], tally: Tally, monkeypatch: pytest.MonkeyPatch,
) -> None:
    silence(monkeypatch, "artfs.store.recovery")
    with RecordingDisk(HERE / "recording_disk.py", tmp_path / "disk", mountpoint=workspace.home) as disk:
        daemon = DaemonOnRecordingDisk(workspace)
        with daemon:
            content = fill(daemon.mountpoint / "drafts" / "p" / "c", disk, chance)
            disk.mark("committing")
            daemon.client().call("commit", {"project": "p", "draft": "c", "options": {}}, timeout_s=60.0)
            disk.mark("committed")
        log, before = disk.log, disk.before
    promised = Promised()
    first = next(number for number, record in enumerate(log) if record[:2] == ["mark", b"begun"])
    share = min(1.0, scale(6, 150) / (len(log) - first))
    for number, record in enumerate(log):
        if number >= first and chance.random() < share:
            survival = chance.choice(list(Survival))
            what = f"before change {number} of {len(log)}, {record[:3]!r}; {survival.value}"
            with restarted(before.after_power_cut(survival, chance), memory / str(number), what) as home:
                check(promised, content, home, artfs)
            tally("power cuts while a draft is filled and committed")
        if record[0] == "mark":
            promised.hear(record[1].decode())
        before.apply(record)


def check(promised: Promised, content: dict[str, str], home: Path, artfs: Artfs) -> None:
    state = StateFolder(home)
    was_made = "p/c:v0" in state.versions()
    assert was_made or not promised.committed
    draft = home / "drafts" / "local" / "p" / "c" / "files"
    if not was_made and not promised.committing:
        assert draft.exists() or not promised.begun
        for path, digest in promised.synced.items():
            assert digest_bytes((draft / path).read_bytes()) == digest, path
    done = artfs("commit", "p/c", ARTFS_HOME=str(home))
    if was_made:
        assert done.returncode in (0, 3), done.stderr
        assert state.content("p/c:v0") == content
    elif promised.begun:
        assert done.returncode == 0, done.stderr
        made = state.content("p/c:v0")
        assert {path: made.get(path) for path in promised.synced} == promised.synced
    state.verify()
    assert state.leftovers() == []


def test_a_digest_from_before_a_power_cut_is_not_believed(tmp_path: Path) -> None:
    """A real disk may have the new time of a file that was written over in place, and still its old bytes."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "later").mkdir()
    with SmallDisk(tmp_path / "disk") as disk:
        path, log = disk.mountpoint / "f", HashLog(disk.mountpoint / "hashes")
        path.write_bytes(b"old " * 1000)
        sync(path)
        with path.open("r+b") as stream:
            stream.write(b"new " * 1000)
        log.add(record_for(path.stat(), hash_bytes(path.read_bytes()).content, ()))
        log.flush()
        sync(disk.mountpoint / "hashes")  # and with it, the journal that has the file's time
        assert HashLog(disk.mountpoint / "hashes").try_get(path.stat()) is not None
        shutil.copyfile(disk.image, tmp_path / "image")
    subprocess.run(["mount", "-o", "loop", tmp_path / "image", tmp_path / "later"], check=True)
    try:
        assert (tmp_path / "later" / "f").read_bytes() == b"old " * 1000, "this kernel wrote everything; the test shows nothing"
        hashes = tmp_path / "later" / "hashes"
        data = hashes.read_bytes()
        boot = recovery.read_boot_id().encode()
        assert boot in data
        hashes.write_bytes(data.replace(boot, b"0123456789abcdef"))
        assert HashLog(hashes).try_get((tmp_path / "later" / "f").stat()) is None
    finally:
        subprocess.run(["umount", tmp_path / "later"], check=True)


def test_a_torn_file_of_the_cache_is_never_served(
    tmp_path: Path, memory: Path, chance: random.Random, scale: Callable[[int, int], int], tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silence(monkeypatch, "artfs.store.cache.cache", "artfs.store.cache.index", "artfs.transfer.fetch")
    source = FakeSource()
    small = [source.add(some_bytes(1000 + number, seed=number)) for number in range(20)]
    large = [source.add(some_bytes(6 * BLOCK_SIZE + 5, seed=50 + number)) for number in range(2)]

    def read_all(root: Path, *, large_blocks: range) -> None:
        with Cache(root, size=1 << 40, floor=0) as cache:
            fetcher = Fetcher(source, cache, limit_s=60.0, workers=2)
            for content in small:
                data = fetcher.read_small(content.digest, content.size, timeout_s=60.0)
                assert bytes(data) == source.blobs[content.digest]
            for content in large:
                blob = fetcher.large(content.digest, content.size, content.blocks)
                for index in large_blocks:
                    wanted = source.blobs[content.digest][index * BLOCK_SIZE :][:BLOCK_SIZE]
                    assert bytes(blob.read(index * BLOCK_SIZE, len(wanted), timeout_s=60.0)) == wanted
                blob.close()
            fetcher.close()

    with RecordingDisk(HERE / "recording_disk.py", tmp_path / "disk") as disk:
        read_all(disk.mountpoint, large_blocks=range(4))
        read_all(disk.mountpoint, large_blocks=range(7))
        log, before = disk.log, disk.before
    seen: set[bytes] = set()
    share = min(1.0, scale(6, 150) / len(log))
    for number, record in enumerate(log):
        if chance.random() < share:
            survival = chance.choice(list(Survival))
            image = before.after_power_cut(survival, chance)
            seen.add(signature(image))
            what = f"before change {number} of {len(log)}, {record[:3]!r}; {survival.value}"
            with restarted(image, memory / str(number), what) as home:
                read_all(home, large_blocks=range(7))
        before.apply(record)
    tally("power cuts while the cache is filled", len(seen))
