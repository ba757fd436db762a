"""The process that fetches for another one: it receives, checks, and writes to the cache, and tells what came.

It was forked by a daemon that mounts (fetchprocess.py), and shares nothing with it but a socket and the cache's files. It ends
when the other side of the socket does, whatever became of that. Signals that are meant for the daemon do not end it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from artfs.errors import ArtfsError, OfflineError
from artfs.model.digests import digest_bytes
from artfs.stacks import Dumps
from artfs.store.base import RangeSource
from artfs.store.cache import Cache, CheckedBlob, Complete
from artfs.transfer import fetchwire as wire
from artfs.transfer.largeblob import BlobFile, large_key
from artfs.transfer.shrink import Shrinker
from artfs.transfer.transfers import FetchStats, Transfers
from artfs.wire.errors import error_fields

log = logging.getLogger(__name__)

_WAITING = 2 * 1024 * 1024
"""Bytes that wait to be told at the most; transfers wait then."""

_END_S = 1.0
"""How long transfers may take to notice that the end has come, in seconds."""

_current = threading.local()
"""Of a thread that carries out a request: `request`; of a FetchSmalls `ahead`, the digests that nobody waits for, and `untold`,
those of them that came and are not in the cache yet."""


class Surroundings:
    """What a source of this process is to know of the one that asks.

    Attributes:
        contact: told whether a try reached the server.
    """

    def __init__(self, contact: Callable[[bool, str], None]) -> None:
        self.contact = contact

    @staticmethod
    def gate() -> bool:
        """Before a call to the server, as client.http.Http.gate."""
        asked = getattr(_current, "request", None)
        if asked is None or asked.gate == wire.GATE_OPEN:
            return False
        if asked.gate == wire.GATE_SHUT:
            raise OfflineError(asked.refusal)
        return True


MakeSource = Callable[[Surroundings], tuple[RangeSource, Cache]]
MakeDumps = Callable[[str], Dumps]


class _Outbox:
    """What is to be told. One thread sends it: all that there is at a time, so that many events make few messages while much
    comes, and none waits."""

    def __init__(self, sock: socket.socket, stats: FetchStats) -> None:
        self._sender = wire.Sender(sock)
        self._stats = stats
        self._changed = threading.Condition()
        self._events: list[wire.Event] = []
        self._data: list[bytes | memoryview] = []
        self._nbytes = 0
        self._ended = False

    def put(self, event: wire.Event, data: bytes | memoryview = b"") -> None:
        """Waits while much data is to be sent, if there is data: whoever has none may hold locks."""
        with self._changed:
            while data and self._nbytes > _WAITING and not self._ended:
                self._changed.wait()
            self._events.append(event)
            if data:
                self._data.append(data)
                self._nbytes += len(data)
            self._changed.notify_all()

    def run(self) -> None:
        while True:
            with self._changed:
                while not self._events:
                    self._changed.wait()
                events, data = self._events, self._data
                self._events, self._data, self._nbytes = [], [], 0
                self._changed.notify_all()
            try:
                stats = self._stats
                self._sender.send(wire.Answer(stats.requests, stats.nbytes, stats.wrong, events), data)
            except OSError:
                # Nobody listens: the process is about to end.
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()
                return


class _OpenBlob(BlobFile):
    """`users`: transfers that are under way. `is_stale`: to be closed after the last of them."""

    def __init__(self, digest: str, size: int, blocks: str) -> None:
        super().__init__(digest, size, blocks)
        self.users = 0
        self.is_stale = False


class FetchChild:
    """A transfers.Host that tells everything to the other side of `sock`."""

    def __init__(self, sock: socket.socket, make: MakeSource, *, limit_s: float, workers: int) -> None:
        self.stats = FetchStats()
        self._sock = sock
        self._limit_s = limit_s
        self._out = _Outbox(sock, self.stats)
        self.source, self.cache = make(Surroundings(lambda reached, what: self._out.put(wire.Contact(reached, what))))
        self.cache.packs.on_append = lambda number, name, rows: self._out.put(wire.Packed(number, name, rows))
        self.aside = ThreadPoolExecutor(4, "artfs-aside")
        self._transfers = Transfers(self)
        self._workers = ThreadPoolExecutor(workers, "artfs-fetch")
        self._lock = threading.Lock()
        self._open: dict[str, _OpenBlob] = {}
        self._under_way: dict[Future[None], tuple[wire.FetchSmalls | wire.FetchBlocks, float]] = {}
        self._shrinker = Shrinker(self.aside, lambda: not self._under_way)

    def serve(self) -> None:
        """Until the other side ends."""
        threading.Thread(target=self._out.run, name="artfs-told", daemon=True).start()
        with suppress(OSError):
            while (message := wire.receive(self._sock)) is not None:
                self._take(wire.decode_request(message[0]))
        self.source.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            under_way = list(self._under_way)
        if wait(under_way, _END_S).not_done:
            self.cache.flush()
        else:
            self.cache.close()

    def _take(self, request: wire.Request) -> None:
        match request:
            case wire.Forget(key):
                with self._lock:
                    blob = self._open.pop(key, None)
                    if blob is None:
                        return
                    blob.is_stale = True
                    unused = not blob.users
                if unused:
                    blob.close_file()
            case wire.Connect():
                self.aside.submit(self._connect)
            case wire.Packed(number, name, rows):
                self.cache.packs.told(number, name, rows)
            case wire.ForgetSmall(digest):
                self.cache.discard(digest)
            case wire.FetchBlocks(_, _, _, digest, size, blocks):
                key = large_key(digest, blocks)
                with self._lock:
                    blob = self._open.get(key)
                    if blob is None:
                        blob = self._open[key] = _OpenBlob(digest, size, blocks)
                    blob.users += 1
                self._begin(request, blob)
            case wire.FetchSmalls():
                self._begin(request, None)

    def _connect(self) -> None:
        try:
            self.source.connect(deadline=self.deadline())
        except ArtfsError as error:
            log.debug("connecting ahead: %s", error)  # whoever wants something hears of it

    def request_lines(self) -> list[str]:
        """What is under way, for a dump (artfs/stacks.py)."""
        now = time.monotonic()
        # A copy in one step, without the lock: who has that may be what hangs.
        return [f"for {now - began:.1f} s: {request}"[:1000] for request, began in list(self._under_way.values())]

    def _begin(self, request: wire.FetchSmalls | wire.FetchBlocks, blob: _OpenBlob | None) -> None:
        future = self._workers.submit(self._carry_out, request, blob)
        with self._lock:
            self._under_way[future] = (request, time.monotonic())
        future.add_done_callback(self._ended)

    def _ended(self, future: Future[None]) -> None:
        with self._lock:
            self._under_way.pop(future, None)
        self._shrinker.ended()

    def _carry_out(self, request: wire.FetchSmalls | wire.FetchBlocks, blob: _OpenBlob | None) -> None:
        _current.request = request
        _current.ahead = frozenset(request.digests[request.waited :]) if isinstance(request, wire.FetchSmalls) else frozenset()
        _current.untold = set()
        try:
            if isinstance(request, wire.FetchSmalls):
                self._transfers.fetch_smalls(request.digests, request.nbytes)
            elif blob is not None:
                self._transfers.fetch_blocks(blob, request.first, request.stop)
        except Exception as error:
            # Whoever waited was told; this is a defect, and the process goes on.
            log.exception("fetching failed: %r", error)
        finally:
            _current.request = _current.ahead = _current.untold = None
            if blob is not None:
                self._release(blob)
            self._out.put(wire.Done(request.number))

    def _release(self, blob: _OpenBlob) -> None:
        with self._lock:
            blob.users -= 1
            unused = blob.is_stale and not blob.users
        if unused:
            blob.close_file()

    # Host -------------------------------------------------------------------------------------------------------
    def deadline(self) -> float:
        return time.monotonic() + self._limit_s

    def tell(self, error: ArtfsError, what: str) -> None:
        self._out.put(wire.Told(error_fields(error), what))

    def recent(self, key: Any) -> bytes | None:
        return None

    def read_cached(self, digest: str) -> bytes | None:
        data = self.cache.try_read(digest)
        if data is None or digest_bytes(data) == digest:
            return data
        self.cache.discard(digest)
        self._out.put(wire.Damaged(f"the cached blob {digest} was damaged; it is fetched again"))
        return None

    def remember(self, key: Any, data: bytes) -> None:
        if key in _current.ahead:
            _current.untold.add(key)  # nobody waits for it: told when it is in the cache
        else:
            self._out.put(wire.SmallBytes(key, len(data)), data)

    def smalls_not_kept(self, blobs: Iterable[CheckedBlob]) -> None:
        for digest, data in blobs:
            if digest in _current.untold:
                _current.untold.remove(digest)
                self._out.put(wire.SmallBytes(digest, len(data)), data)

    def small_came(self, digest: str) -> None:
        """`remember` has told it."""

    def smalls_landed(self, digests: Iterable[str]) -> None:
        untold = _current.untold
        kept: list[str] = []
        others: list[str] = []
        for digest in digests:
            (kept if digest in untold else others).append(digest)
        untold.difference_update(kept)
        if kept:
            self._out.put(wire.SmallsKept(kept))
        if others:
            self._out.put(wire.SmallsLanded(others))

    def small_failed(self, digest: str, error: ArtfsError) -> None:
        self._out.put(wire.SmallFailed(digest, error_fields(error)))

    def opened(self, blob: BlobFile) -> None:
        request = _current.request
        if not request.is_open and blob.file is not None and blob.top is not None:
            top = blob.top
            hashes = blob.file.hashes if isinstance(blob.file, Complete) and top.lower else b""
            self._out.put(wire.Opened(request.number, top.size, top.lower, top.hashes, len(hashes)), hashes)

    def block_came(self, blob: BlobFile, index: int, data: memoryview, *, kept: bool) -> None:
        number = _current.request.number
        if kept:
            self._out.put(wire.BlocksLanded(number, [index], True))
        else:
            self._out.put(wire.BlockBytes(number, index, len(data)), bytes(data))

    def blocks_landed(self, blob: BlobFile, indexes: Iterable[int]) -> None:
        self._out.put(wire.BlocksLanded(_current.request.number, list(indexes), False))

    def blocks_failed(self, blob: BlobFile, indexes: Iterable[int], error: ArtfsError) -> None:
        self._out.put(wire.BlocksFailed(_current.request.number, list(indexes), error_fields(error)))


def become(
    sock: socket.socket, make: MakeSource, *, limit_s: float, workers: int, make_dumps: MakeDumps | None = None
) -> None:
    """In the new process: serves until the other side ends. Does not return."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        kept = sock.fileno()
        os.closerange(3, kept)
        os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
        with suppress(OSError), open("/proc/self/comm", "w") as name:
            name.write("artfs-fetch")
        # Not before the other side has it: a damaged cache is mended by one process at a time.
        if wire.receive(sock) is not None:
            child = FetchChild(sock, make, limit_s=limit_s, workers=workers)
            if make_dumps is not None:
                dumps = make_dumps("the process that fetches")
                dumps.sections.insert(0, ("requests", child.request_lines))
                dumps.start()
            child.serve()
        code = 0
    except BaseException as error:
        log.critical("the process that fetches ends: %r", error)
    finally:
        os._exit(code)
