"""Steps of artfs.testing.steps that change names: renaming, removing, linking."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from artfs.testing.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from artfs.testing.trees import outcome


def rename_file(root: Path) -> object:
    os.rename(root / "file", root / "folder" / "renamed")
    return (root / "file").exists(), (root / "folder" / "renamed").exists()


def rename_over_file(root: Path) -> object:
    os.rename(root / "tool", root / "folder" / "inner")
    return (root / "folder" / "inner").read_text()


def rename_to_itself(root: Path) -> None:
    os.rename(root / "large", root / "large")


def rename_folder(root: Path) -> object:
    os.rename(root / "folder", root / "moved")
    return sorted(os.listdir(root / "moved")), (root / "moved" / "deep" / "file").read_text()


def rename_folder_over_empty(root: Path) -> None:
    os.rename(root / "folder", root / "empty")


def rename_folder_over_full(root: Path) -> None:
    (root / "full").mkdir()
    (root / "full" / "x").touch()
    os.rename(root / "folder", root / "full")


def rename_folder_over_file(root: Path) -> None:
    os.rename(root / "folder", root / "file")


def rename_file_over_folder(root: Path) -> None:
    os.rename(root / "file", root / "empty")


def rename_folder_into_itself(root: Path) -> None:
    os.rename(root / "folder", root / "folder" / "deep" / "in")


def rename_what_is_not_there(root: Path) -> None:
    os.rename(root / "absent", root / "other")


def rename_without_replacing(root: Path) -> None:
    renameat2(root / "file", root / "quite new", RENAME_NOREPLACE)
    renameat2(root / "quite new", root / "tool", RENAME_NOREPLACE)


def exchange(root: Path) -> None:
    renameat2(root / "file", root / "link", RENAME_EXCHANGE)
    renameat2(root / "file", root / "folder" / "deep", RENAME_EXCHANGE)
    renameat2(root / "empty", root / "folder", RENAME_EXCHANGE)
    renameat2(root / "tool", root / "tool", RENAME_EXCHANGE)


def exchange_with_nothing(root: Path) -> None:
    renameat2(root / "file", root / "absent", RENAME_EXCHANGE)


def exchange_with_what_it_is_in(root: Path) -> None:
    renameat2(root / "folder", root / "folder" / "inner", RENAME_EXCHANGE)


def rename_a_link(root: Path) -> object:
    os.rename(root / "link", root / "link 2")
    return os.readlink(root / "link 2")


def unlink(root: Path) -> None:
    (root / "file").unlink()
    (root / "link").unlink()
    (root / "file").unlink()


def unlink_a_folder(root: Path) -> None:
    (root / "empty").unlink()


def unlink_and_make_again(root: Path) -> object:
    (root / "file").unlink()
    (root / "file").write_text("again")
    (root / "folder" / "inner").unlink()
    (root / "folder" / "inner").mkdir()
    return (root / "file").read_text()


def unlink_while_open(root: Path) -> object:
    with (root / "large").open("r+b") as stream:
        (root / "large").unlink()
        stream.seek(10)
        stream.write(b"still here")
        stream.flush()
        stream.seek(8)
        return stream.read(14), os.fstat(stream.fileno()).st_nlink, (root / "large").exists()


def rmdir(root: Path) -> None:
    (root / "empty").rmdir()
    (root / "folder").rmdir()


def rmdir_and_make_again(root: Path) -> object:
    shutil.rmtree(root / "folder")
    (root / "folder").mkdir()
    (root / "folder" / "only").touch()
    return os.listdir(root / "folder")


def rmdir_a_file(root: Path) -> None:
    (root / "file").rmdir()


def remove_everything(root: Path) -> object:
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return os.listdir(root)


def symlinks(root: Path) -> object:
    (root / "s").symlink_to("folder")
    (root / "folder" / "up").symlink_to("../file")
    (root / "loop").symlink_to("loop")
    assert (root / "s" / "inner").exists()
    shown = os.readlink(root / "folder" / "up"), (root / "s").lstat().st_size
    return shown, outcome(Path.read_text, root / "loop")


def symlink_over_a_name(root: Path) -> None:
    (root / "file").symlink_to("tool")


def hard_links(root: Path) -> object:
    os.link(root / "file", root / "folder" / "hard")
    with (root / "folder" / "hard").open("a") as stream:
        stream.write("through the other name")
    one, other = (root / "file").stat(), (root / "folder" / "hard").stat()
    shown = one.st_ino == other.st_ino, one.st_nlink, other.st_nlink, (root / "file").read_text()
    (root / "file").unlink()
    return shown, (root / "folder" / "hard").stat().st_nlink, (root / "folder" / "hard").read_text()


def hard_links_of_a_link(root: Path) -> object:
    os.link(root / "link", root / "folder" / "same", follow_symlinks=False)
    one, other = (root / "link").lstat(), (root / "folder" / "same").lstat()
    shown = one.st_ino == other.st_ino, one.st_nlink, other.st_nlink, os.readlink(root / "folder" / "same")
    os.rename(root / "link", root / "folder" / "same")  # one file already: nothing is done
    names = sorted(os.listdir(root / "folder"))
    (root / "link").unlink()
    return shown, names, (root / "folder" / "same").lstat().st_nlink, os.readlink(root / "folder" / "same")


def hard_link_over_a_name(root: Path) -> None:
    os.link(root / "file", root / "tool")


def hard_link_of_a_folder(root: Path) -> None:
    os.link(root / "folder", root / "other")
