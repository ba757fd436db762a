"""Writes files below a folder and says on standard output how far it is, so that others know what must survive.

    python writer.py FOLDER SEED COUNT DIRS SIZE [LARGE]

COUNT files of up to SIZE bytes in DIRS directories, then one of LARGE bytes (0: none) that is written from its second
half on, so that its digest cannot be followed while it is written. Lines: `W PATH DIGEST MODE` before a file is
opened, `C PATH` before it is closed, `D PATH` once close() has returned without an error, `E PATH ERRNO` when something
failed (then it ends).
"""

import hashlib
import os
import random
import sys


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def write(folder: str, path: str, data: bytes, mode: int, backwards: bool) -> None:
    say("W", path, hashlib.sha256(data).hexdigest(), f"{mode:o}")
    os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
    fd = os.open(f"{folder}/{path}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    half = len(data) // 2
    parts = [(half, data[half:]), (0, data[:half])] if backwards else [(0, data[:half]), (half, data[half:])]
    for at, part in parts:
        done = 0
        while done < len(part):
            done += os.pwrite(fd, part[done : done + 262144], at + done)
    say("C", path)
    os.close(fd)
    say("D", path)


def main() -> None:
    folder, seed = sys.argv[1], sys.argv[2]
    count, dirs, size, large = (int(word) for word in sys.argv[3:7])
    chance = random.Random(seed)
    path = ""
    try:
        for number in range(count):
            path = f"d{number % dirs}/{seed}-{number}"
            mode = 0o755 if number % 5 == 0 else 0o644
            write(folder, path, chance.randbytes(chance.randint(size // 2, size)), mode, False)
        if large:
            path = f"large-{seed}"
            write(folder, path, chance.randbytes(large), 0o644, True)
    except OSError as error:
        say("E", path, error.errno)


main()
