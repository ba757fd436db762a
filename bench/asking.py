"""Many clients that read metadata from one server at once; run by bench/remote.py in a process of its own.

    python bench/asking.py URL CLIENTS REQUESTS

Every client has a connection and asks again and again; all begin together. The last line is JSON: seconds, answers, what went
wrong by kind, and the latencies in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

P = "/v1/projects/local/bench"
PATHS = (
    "/v1/entities/local/projects", f"{P}/collections", f"{P}/collections/small", f"{P}/collections/small/resolve?alias=latest",
    f"{P}/collections/small/resolve?alias=v0",
)  # fmt: skip


class Asker:
    def __init__(self, host: str, port: int, clients: int) -> None:
        self.host = host
        self.port = port
        self.missing = clients
        self.all_there = asyncio.Event()
        self.wrong: Counter[str] = Counter()
        self.taken: list[float] = []
        self.start = asyncio.Event()

    async def client(self, number: int, requests: int) -> None:
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        except OSError as error:
            self.wrong[f"connect: {error.strerror}"] += 1
            return
        finally:
            self.missing -= 1
            if not self.missing:
                self.all_there.set()
        await self.start.wait()
        try:
            for turn in range(requests):
                begin = time.perf_counter()
                status = await self.ask(reader, writer, PATHS[(number + turn) % len(PATHS)])
                self.taken.append(time.perf_counter() - begin)
                if status != 200:
                    self.wrong[f"status {status}"] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            self.wrong[type(error).__name__] += 1
        finally:
            writer.close()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if "content-length" in fields:
            await reader.readexactly(int(fields["content-length"]))
        else:
            while size := int((await reader.readline()).partition(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        return int(head.split(" ", 2)[1])


async def ask(url: str, clients: int, requests: int) -> None:
    parts = urlsplit(url)
    asker = Asker(parts.hostname or "", parts.port or 80, clients)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(asker.client(number, requests))
        await asker.all_there.wait()
        begin = time.perf_counter()
        asker.start.set()
    taken = sorted(asker.taken)
    print(json.dumps({
        "seconds": time.perf_counter() - begin, "answers": len(taken), "wrong": dict(asker.wrong),
        "ms": {f"p{part}": 1000 * taken[len(taken) * part // 100] for part in (50, 90, 99)} if taken else {},
    }))  # fmt: skip


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    asyncio.run(ask(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
