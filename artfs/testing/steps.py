"""Lists of steps that do to a folder what programs do, for comparing a draft with an ordinary folder (see
artfs.testing.trees.alike)."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from artfs.testing.namesteps import (
    exchange,
    exchange_with_nothing,
    exchange_with_what_it_is_in,
    hard_link_of_a_folder,
    hard_link_over_a_name,
    hard_links,
    hard_links_of_a_link,
    remove_everything,
    rename_a_link,
    rename_file,
    rename_file_over_folder,
    rename_folder,
    rename_folder_into_itself,
    rename_folder_over_empty,
    rename_folder_over_file,
    rename_folder_over_full,
    rename_over_file,
    rename_to_itself,
    rename_what_is_not_there,
    rename_without_replacing,
    rmdir,
    rmdir_a_file,
    rmdir_and_make_again,
    symlink_over_a_name,
    symlinks,
    unlink,
    unlink_a_folder,
    unlink_and_make_again,
    unlink_while_open,
)
from artfs.testing.trees import Link, Plan, Step

PLAN: Plan = {
    "file": "0123456789",
    "tool*": "#!/bin/sh\n",
    "large": bytes(range(256)) * 5000,
    "folder/inner": "inner",
    "folder/deep/file": "deep",
    "empty": None,
    "link": Link("folder/inner"),
    "dangling": Link("nowhere"),
}
"""What the steps begin with."""


def write_text(root: Path) -> object:
    return (root / "new").write_text("text"), (root / "folder" / "new").write_bytes(b"\0" * 100_000)


def append(root: Path) -> object:
    with (root / "file").open("a") as stream:
        stream.write("+")
        stream.flush()
        stream.write("more")
    return (root / "file").read_text()


def append_by_two(root: Path) -> object:
    """O_APPEND: each write goes to the end, wherever that is by then."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    one, other = os.open(root / "log", flags), os.open(root / "log", flags)
    for number in range(10):
        os.write(one, b"one %d\n" % number)
        os.write(other, b"other %d\n" % number)
    os.close(one)
    os.close(other)
    return (root / "log").read_text()


def create_exclusively(root: Path) -> None:
    with (root / "exclusive").open("x") as stream:
        stream.write("mine")
    (root / "exclusive").open("x")


def create_over_a_folder(root: Path) -> object:
    return (root / "folder").open("w")


def read_and_write(root: Path) -> object:
    with (root / "file").open("r+") as stream:
        first = stream.read(3)
        stream.seek(5)
        stream.write("XY")
        stream.seek(0)
        return first, stream.read()


def write_and_read(root: Path) -> object:
    with (root / "tool").open("w+b") as stream:
        stream.write(b"replaced")
        stream.seek(2)
        return stream.read()


def open_what_is_not_there(root: Path) -> object:
    return (root / "absent").open("r+")


def write_a_hole(root: Path) -> object:
    with (root / "holes").open("wb") as stream:
        stream.seek(200_000)
        stream.write(b"end")
    status = (root / "holes").stat()
    return status.st_size, (root / "holes").read_bytes() == b"\0" * 200_000 + b"end"


def change_one_byte(root: Path) -> object:
    with (root / "large").open("r+b") as stream:
        stream.seek(777_777)
        stream.write(b"!")
    return (root / "large").read_bytes()[777_770:777_780]


def truncate(root: Path) -> object:
    os.truncate(root / "large", 300_001)
    os.truncate(root / "file", 20)
    with (root / "tool").open("r+") as stream:
        stream.truncate(3)
        return (
            (root / "large").stat().st_size,
            (root / "file").read_bytes(),
            os.fstat(stream.fileno()).st_size,
        )


def truncate_on_opening(root: Path) -> object:
    with (root / "file").open("w"):
        return (root / "file").stat().st_size


def make_folders(root: Path) -> object:
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "a" / "b" / "c" / "f").write_text("f")
    return sorted(os.listdir(root / "a"))


def make_a_folder_twice(root: Path) -> None:
    (root / "empty").mkdir()


def make_a_folder_in_a_file(root: Path) -> None:
    (root / "file" / "x").mkdir()


def chmod(root: Path) -> object:
    (root / "file").chmod(0o755)
    (root / "tool").chmod(0o644)
    (root / "folder").chmod(0o700)
    (root / "own").write_text("own")
    (root / "own").chmod(0o711)
    return [stat.S_IMODE((root / name).stat().st_mode) for name in ("file", "tool", "folder", "own")]


def make_a_program(root: Path) -> object:
    (root / "program").write_text("#!/bin/sh\necho ran\n")
    subprocess.run(["chmod", "+x", root / "program"], check=True)
    return subprocess.run([root / "program"], capture_output=True, text=True).stdout


def times(root: Path) -> object:
    shown = []
    for name in ("file", "large", "folder", "empty"):
        os.utime(root / name, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
        status = (root / name).stat()
        shown.append((name, status.st_atime_ns, status.st_mtime_ns))
    os.utime(root / "link", ns=(1, 1_400_000_000_000_000_001), follow_symlinks=False)
    status = (root / "link").lstat()
    return shown, status.st_atime_ns, status.st_mtime_ns


def owners(root: Path) -> object:
    """Root may give everything away; others may not, but for what is theirs already."""
    shown = []
    for name in ("file", "tool", "folder", "empty", "link", "dangling"):
        path = root / name
        if name == "tool":
            path.chmod(0o6755)
        try:
            os.lchown(path, 12, 34)
        except PermissionError:
            os.lchown(path, os.geteuid(), os.getegid())
        status = path.lstat()
        shown.append((name, status.st_uid, status.st_gid, oct(status.st_mode)))
    return shown


def folders_that_give_their_group(root: Path) -> object:
    """Also to what takes the name of something that was there before."""
    folder = root / "folder"
    os.chown(folder, -1, 34 if os.geteuid() == 0 else -1)
    folder.chmod(0o2755)
    shutil.rmtree(folder / "deep")
    (folder / "inner").unlink()
    for number, name in enumerate(("inner", "new")):
        (folder / name).touch()
        (folder / f"link {number}").symlink_to(name)
    (folder / "deep").mkdir()
    (folder / "newer").mkdir()
    (folder / "inner").unlink()
    (folder / "inner").symlink_to("new")
    shown = [(path.name, path.lstat().st_gid, oct(path.lstat().st_mode)) for path in sorted(folder.iterdir())]
    return shown, folder.stat().st_gid


def times_of_change(root: Path) -> object:
    """What sets the ctime of its object, and what does not."""

    def changes_it(name: str, call: Callable[[], object], shown_by: str = "") -> bool:
        before = (root / name).lstat().st_ctime_ns
        time.sleep(0.02)  # a tmpfs tells times in ticks of its kernel
        call()
        return (root / (shown_by or name)).lstat().st_ctime_ns > before

    return [
        changes_it("file", lambda: (root / "file").chmod(0o600)),
        changes_it("large", lambda: os.utime(root / "large", ns=(1, 1))),
        changes_it("tool", lambda: (root / "tool").rename(root / "folder" / "tool"), "folder/tool"),
        changes_it("link", lambda: (root / "link").rename(root / "link 2"), "link 2"),
        changes_it("dangling", lambda: os.utime(root / "dangling", ns=(1, 1), follow_symlinks=False)),
        changes_it("folder/inner", lambda: os.link(root / "folder" / "inner", root / "inner")),
        changes_it("folder/inner", lambda: (root / "inner").unlink()),
        changes_it("folder/deep/file", lambda: (root / "folder").rename(root / "folder 2"), "folder 2/deep/file"),
        changes_it("large", lambda: (root / "large").read_bytes()),
    ]


def times_of_links_that_move(root: Path) -> object:
    """Inherited or not, and under other names as well."""
    (root / "moved").symlink_to("file")
    for name in ("link", "moved"):
        os.utime(root / name, ns=(1, 1_400_000_000_000_000_001), follow_symlinks=False)
        os.rename(root / name, root / "folder" / name)
    os.link(root / "folder" / "link", root / "other", follow_symlinks=False)
    return [path.lstat().st_mtime_ns for path in (root / "folder" / "link", root / "folder" / "moved", root / "other")]


def times_while_open(root: Path) -> object:
    """As tar and rsync set them: with the file open, after the last write."""
    with (root / "timed").open("wb") as stream:
        stream.write(b"x" * 10_000)
        stream.flush()
        os.utime(stream.fileno(), ns=(5, 1_500_000_000_000_000_005))
    return (root / "timed").stat().st_mtime_ns


def sync(root: Path) -> object:
    with (root / "synced").open("w") as stream:
        stream.write("x")
        stream.flush()
        os.fsync(stream.fileno())
        os.fdatasync(stream.fileno())
    folder = os.open(root, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return (root / "synced").read_text()


def map_and_write(root: Path) -> object:
    with (root / "large").open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
        view[1000:1010] = b"by the map"
        view[900_000:900_003] = b"too"
        view.flush()
        stream.seek(999)
        first = stream.read(12)
    return first, (root / "large").read_bytes()[899_999:900_004]


def map_and_close(root: Path) -> object:
    """The map outlives its descriptor; what is written then counts, too."""
    descriptor = os.open(root / "file", os.O_RDWR)
    view = mmap.mmap(descriptor, 10)
    os.close(descriptor)
    view[0:3] = b"MAP"
    view.flush()
    view.close()
    return (root / "file").read_text()


def read_at_offsets(root: Path) -> object:
    descriptor = os.open(root / "large", os.O_RDONLY)
    shown = [os.pread(descriptor, 10, at) for at in (0, 1_279_995, 1_280_000, 2_000_000)]
    os.close(descriptor)
    return shown


def lock(root: Path) -> None:
    with (root / "file").open("r+") as one, (root / "file").open("r+") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def too_long_name(root: Path) -> None:
    (root / ("x" * 255)).touch()
    (root / ("x" * 256)).touch()


def odd_names(root: Path) -> object:
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b"sp ace", "ünï".encode(), b"...", b"gone", b"tree"):
        with open(os.fsencode(root) + b"/" + name, "wb") as stream:
            stream.write(name)
    return sorted(os.listdir(os.fsencode(root)))


def dot_and_dot_dot(root: Path) -> object:
    shown = sorted(os.listdir(root / "folder" / "deep" / ".." / "." / ".."))
    return (
        shown,
        os.path.samefile(root, root / "folder" / ".."),
        (root / "folder" / "..").stat().st_ino == root.stat().st_ino,
    )


def scan(root: Path) -> object:
    return sorted(
        (e.name, e.is_dir(follow_symlinks=False), e.is_symlink(), e.inode() > 0) for e in os.scandir(root)
    )


def list_while_removing(root: Path) -> object:
    for number in range(300):
        (root / "empty" / f"{number}").touch()
    for entry in os.scandir(root / "empty"):
        os.unlink(entry.path)
    return os.listdir(root / "empty")


def make_by_mknod(root: Path) -> object:
    os.mknod(root / "plain", 0o644 | stat.S_IFREG)
    return (root / "plain").stat().st_size


STEPS: dict[str, list[Step]] = {
    "writing": [
        write_text,
        append,
        append_by_two,
        read_and_write,
        write_and_read,
        write_a_hole,
        change_one_byte,
    ],
    "opening": [create_exclusively, create_over_a_folder, open_what_is_not_there, make_by_mknod],
    "truncating": [truncate, truncate_on_opening],
    "folders": [
        make_folders,
        make_a_folder_twice,
        make_a_folder_in_a_file,
        rmdir,
        rmdir_and_make_again,
        rmdir_a_file,
    ],
    "renaming files": [
        rename_to_itself,
        rename_without_replacing,
        rename_file_over_folder,
        rename_over_file,
        rename_a_link,
    ],
    "exchanging": [exchange_with_nothing, exchange_with_what_it_is_in, exchange],
    "renaming a file": [rename_file, rename_what_is_not_there, rename_file],
    "renaming folders": [
        rename_folder_over_full,
        rename_folder_over_file,
        rename_folder_into_itself,
        rename_folder,
        rename_folder,
    ],
    "renaming over an empty folder": [rename_folder_over_empty],
    "unlinking": [unlink_a_folder, unlink, unlink_while_open],
    "unlinking and making again": [unlink_and_make_again],
    "removing everything": [remove_everything, make_folders],
    "symbolic links": [symlinks, symlink_over_a_name],
    "hard links": [hard_link_over_a_name, hard_link_of_a_folder, hard_links, hard_links_of_a_link],
    "modes": [chmod, make_a_program],
    "times": [times, times_while_open, times_of_links_that_move],
    "times of change": [times_of_change],
    "owners": [owners, folders_that_give_their_group],
    "syncing": [sync],
    "maps": [map_and_write, map_and_close],
    "reading": [read_at_offsets, dot_and_dot_dot, scan, lock],
    "names": [too_long_name, odd_names],
    "listing": [list_while_removing],
}
"""By what they are about. Each list begins with PLAN; its steps follow upon one another."""
