"""Writes files below a folder and says on standard output how far it is, so that others know what must survive.

    python writer.py FOLDER SEED COUNT DIRS SIZE LARGE WAY

COUNT files of up to SIZE bytes in DIRS directories, then one of LARGE bytes (0: none) that is written from its second
half on, after its first byte was synced twice, so that its digest cannot be followed while it is written. WAY: "write" does
so; "map" changes the COUNT files through a map that is there until they are closed, so their bytes are on their way then
at the earliest. Lines: `W PATH DIGEST MODE` before a file is opened, `C PATH` before it is closed, `D PATH` once
close() has returned without an error, `E PATH ERRNO` when something failed (then it ends).
"""

import hashlib
import mmap
import os
import random
import sys


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def begin(folder: str, path: str, data: bytes, mode: int, access: int) -> int:
    say("W", path, hashlib.sha256(data).hexdigest(), f"{mode:o}")
    os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
    return os.open(f"{folder}/{path}", access | os.O_CREAT | os.O_TRUNC, mode)


def write(folder: str, path: str, data: bytes, mode: int, backwards: bool = False) -> None:
    fd = begin(folder, path, data, mode, os.O_WRONLY)
    for _ in range(2 if backwards else 0):
        os.pwrite(fd, b"?", 0)
        os.fsync(fd)
    half = len(data) // 2
    parts = [(half, data[half:]), (0, data[:half])] if backwards else [(0, data[:half]), (half, data[half:])]
    for at, part in parts:
        done = 0
        while done < len(part):
            done += os.pwrite(fd, part[done : done + 262144], at + done)
    say("C", path)
    os.close(fd)
    say("D", path)


def write_mapped(folder: str, path: str, data: bytes, mode: int) -> None:
    fd = begin(folder, path, data, mode, os.O_RDWR)
    os.ftruncate(fd, len(data))
    view = mmap.mmap(fd, len(data))
    view[:] = data
    say("C", path)
    os.close(fd)
    view.close()
    say("D", path)


def main() -> None:
    folder, seed = sys.argv[1], sys.argv[2]
    count, dirs, size, large = (int(word) for word in sys.argv[3:7])
    make = {"write": write, "map": write_mapped}[sys.argv[7]]
    chance = random.Random(seed)
    path = ""
    try:
        for number in range(count):
            path = f"d{number % dirs}/{seed}-{number}"
            mode = 0o755 if number % 5 == 0 else 0o644
            make(folder, path, chance.randbytes(chance.randint(size // 2, size)), mode)
        if large:
            path = f"large-{seed}"
            write(folder, path, chance.randbytes(large), 0o644, backwards=True)
    except OSError as error:
        say("E", path, error.errno)


main()
