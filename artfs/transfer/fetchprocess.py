"""Has transfers carried out by a process of its own.

Receiving, checking and writing what comes takes a processor; so does answering a kernel's requests. In one process both wait
for one interpreter lock, and for each other at every system call. So a daemon forks, before it has threads, a process that
fetches (fetchchild.py), and what is left here is to pass on what it tells.

What it has checked is taken as checked: it is this program, told nothing by anybody else. When it ends, whyever, those who wait
for it hear `FetchProcessEnded`, and the fetcher carries out transfers itself from then on.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from artfs.errors import ArtfsError, OfflineError, UnavailableError
from artfs.model.blocklist import BlockList
from artfs.transfer import fetchchild
from artfs.transfer import fetchwire as wire
from artfs.wire.errors import error_from

if TYPE_CHECKING:
    from artfs.transfer.fetch import Fetcher
    from artfs.transfer.largeblob import LargeBlob

log = logging.getLogger(__name__)

CLOSE_S = 2.0
"""How long it has to end by itself, in seconds."""

_TRIES = 3


class FetchProcessEnded(Exception):
    """It is gone; some of what it was asked for may have come."""


class _HashesMissing(Exception):
    """The blob became complete after the other process had opened it."""


class _Pending:
    """Something that was asked for. `unopened`: blocks that came, but the blob's file could not be opened here (`error`: why
    not, if it was more than a race)."""

    __slots__ = ("blob", "ended", "error", "over", "unopened")

    def __init__(self, blob: LargeBlob | None) -> None:
        self.blob = blob
        self.over = threading.Event()
        self.ended = False
        self.error: ArtfsError | None = None
        self.unopened: list[int] = []


class FetchProcess:
    """Made by `fork`; `attach` it to a fetcher, which closes it. Thread-safe.

    Attributes:
        pid: the process.
        gate: asked before each transfer whether the server should be asked, as client.http.Http.gate.
        on_contact: told of each try, as client.http.Http.on_contact.
    """

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self.pid = pid
        self.gate: Callable[[], bool] = lambda: False
        self.on_contact: Callable[[bool, str], None] = lambda reached, what: None
        self._sock = sock
        self._sender = wire.Sender(sock)
        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._numbers = itertools.count()
        self._has_ended = False
        self._closing = False
        self._seen = (0, 0, 0)
        self._thread: threading.Thread | None = None

    @classmethod
    def fork(
        cls, make: fetchchild.MakeSource, *, limit_s: float, workers: int, make_dumps: fetchchild.MakeDumps | None = None
    ) -> FetchProcess:
        """To be called while this process has one thread. `make`: called there; gives where bytes come from and go to.
        `limit_s`, `workers`: as of a Fetcher. `make_dumps`: called there; what SIGUSR1 has it write (artfs/stacks.py; the
        caller has called `hold_signal`). None: the signal ends it. Raises OSError."""
        ours, theirs = socket.socketpair()
        # Pages with objects that are never looked at again stay shared.
        gc.collect()
        gc.freeze()
        try:
            pid = os.fork()
        except BaseException:
            ours.close()
            theirs.close()
            raise
        if not pid:
            fetchchild.become(theirs, make, limit_s=limit_s, workers=workers, make_dumps=make_dumps)
        gc.unfreeze()
        theirs.close()
        return cls(ours, pid)

    def attach(self, fetcher: Fetcher) -> None:
        """What comes is told to `fetcher` from now on, whose cache is open."""
        fetcher.cache.packs.on_append = lambda number, name, rows: self._tell(wire.Packed(number, name, rows))
        self._tell(wire.Begin())
        self._thread = threading.Thread(target=self._listen, args=(fetcher,), name="artfs-told", daemon=True)
        self._thread.start()

    @property
    def is_there(self) -> bool:
        return not self._has_ended

    def close(self) -> None:
        """Ends it. Again is fine."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)
        self._reap()
        self._sock.close()

    def _reap(self) -> None:
        until = time.monotonic() + CLOSE_S
        with suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > until:
                    os.kill(self.pid, signal.SIGKILL)
                    os.waitpid(self.pid, 0)
                    return
                time.sleep(0.005)

    # asking -----------------------------------------------------------------------------------------------------
    def fetch_smalls(self, digests: list[str], nbytes: int | None, waited: int) -> None:
        """As Transfers.fetch_smalls. `waited`: somebody waits for so many of them, the first ones: their bytes come here, those
        of the others only into the cache. Raises FetchProcessEnded."""
        self._ask(wire.FetchSmalls(next(self._numbers), *self._ask_gate(), digests, nbytes, waited), None)

    def fetch_blocks(self, blob: LargeBlob, first: int, stop: int, fetcher: Fetcher) -> None:
        """As Transfers.fetch_blocks. Raises FetchProcessEnded."""
        error: ArtfsError = UnavailableError(f"blob {blob.digest} changes all the time in the cache")
        for _ in range(_TRIES):
            number, (gate, refusal) = next(self._numbers), self._ask_gate()
            request = wire.FetchBlocks(
                number, gate, refusal, blob.digest, blob.size, blob.blocks, first, stop, is_open=blob.file is not None
            )
            pending = self._ask(request, blob)
            if not pending.unopened:
                return
            first, stop = min(pending.unopened), max(pending.unopened) + 1
            if pending.error is not None:
                error = pending.error
                break
            # It became complete between the two openings: both anew.
            self.forget(blob.key)
        fetcher.tell(error, f"fetching blocks {first} to {stop - 1} of blob {blob.digest}")
        fetcher.blocks_failed(blob, range(first, stop), error)

    def connect(self) -> None:
        """Something may be asked for soon."""
        if self._ask_gate()[0] == wire.GATE_OPEN:
            self._tell(wire.Connect())

    def forget(self, key: str) -> None:
        """Nobody reads this large blob any more; or what is here of it is another file now."""
        self._tell(wire.Forget(key))

    def forget_small(self, digest: str) -> None:
        """It was found wrong in the cache."""
        self._tell(wire.ForgetSmall(digest))

    def _tell(self, request: wire.Request) -> None:
        with suppress(OSError):  # whoever asks next hears of it
            self._sender.send(request)

    def _ask_gate(self) -> tuple[int, str]:
        try:
            return (wire.GATE_PROBE if self.gate() else wire.GATE_OPEN), ""
        except OfflineError as error:
            return wire.GATE_SHUT, str(error)

    def _ask(self, request: wire.FetchSmalls | wire.FetchBlocks, blob: LargeBlob | None) -> _Pending:
        pending = _Pending(blob)
        with self._lock:
            if self._has_ended:
                raise FetchProcessEnded
            self._pending[request.number] = pending
        try:
            self._sender.send(request)
        except OSError:
            self._end()
        pending.over.wait()
        if pending.ended:
            raise FetchProcessEnded
        return pending

    # listening --------------------------------------------------------------------------------------------------
    def _listen(self, fetcher: Fetcher) -> None:
        try:
            with suppress(OSError):
                while (message := wire.receive(self._sock)) is not None:
                    self._take(wire.decode_answer(message[0]), message[1], fetcher)
        finally:
            self._end()
        if not self._closing:
            self._reap()
            log.warning("the process that fetches has ended (it was %d); this process fetches itself from now on", self.pid)

    def _end(self) -> None:
        with self._lock:
            self._has_ended = True
            pending, self._pending = list(self._pending.values()), {}
        for each in pending:
            each.ended = True
            each.over.set()

    def _take(self, answer: wire.Answer, data: memoryview, fetcher: Fetcher) -> None:
        requests, nbytes, wrong = self._seen
        self._seen = answer.requests, answer.nbytes, answer.wrong
        stats = fetcher.stats
        stats.requests += answer.requests - requests
        stats.nbytes += answer.nbytes - nbytes
        stats.wrong += answer.wrong - wrong
        at = 0
        for event in answer.events:
            if isinstance(event, wire.SmallBytes):
                fetcher.remember(event.digest, bytes(data[at : at + event.nbytes]))
                fetcher.small_came(event.digest)
                at += event.nbytes
            elif isinstance(event, (wire.Opened, wire.BlockBytes)):
                self._take_bytes(event, data[at : at + event.nbytes], fetcher)
                at += event.nbytes
            else:
                self._take_event(event, fetcher)

    def _take_bytes(self, event: wire.Opened | wire.BlockBytes, data: memoryview, fetcher: Fetcher) -> None:
        pending = self._pending.get(event.number)
        if pending is None or pending.blob is None:
            return
        blob = pending.blob
        if isinstance(event, wire.BlockBytes):
            fetcher.block_came(blob, event.index, data, kept=False)
            return
        top = BlockList(event.size, event.lower, event.top_hashes)

        def hashes() -> bytes:
            if not top.lower:
                return top.hashes
            if not data:
                raise _HashesMissing
            return bytes(data)

        with blob.prepare_lock, suppress(_HashesMissing):
            if blob.file is None:
                try:
                    blob.open_file(fetcher.cache, top, hashes)
                except ArtfsError as error:
                    pending.error = error.again()

    def _take_event(self, event: wire.Event, fetcher: Fetcher) -> None:
        match event:
            case wire.SmallsLanded(digests):
                fetcher.smalls_landed(digests)
            case wire.SmallsKept(digests):
                fetcher.smalls_kept(digests)
            case wire.Packed(number, name, rows):
                fetcher.cache.packs.told(number, name, rows)
            case wire.BlocksLanded(number, indexes, checked):
                self._landed(number, indexes, checked, fetcher)
            case wire.Done(number):
                with self._lock:
                    pending = self._pending.pop(number, None)
                if pending is not None:
                    pending.over.set()
            case wire.SmallFailed(digest, error):
                fetcher.small_failed(digest, error_from(error))
            case wire.BlocksFailed(number, indexes, error):
                pending = self._pending.get(number)
                if pending is not None and pending.blob is not None:
                    fetcher.blocks_failed(pending.blob, indexes, error_from(error))
            case wire.Told(error, what):
                fetcher.tell(error_from(error), what)
            case wire.Damaged(message):
                fetcher.count_damaged(message, 1)
            case wire.Contact(reached, what):
                self.on_contact(reached, what)

    def _landed(self, number: int, indexes: list[int], checked: bool, fetcher: Fetcher) -> None:
        pending = self._pending.get(number)
        if pending is None or pending.blob is None:
            return
        if pending.blob.file is None:
            pending.unopened += indexes
            return
        if checked:
            for index in indexes:
                pending.blob.verified[index] = 1
        fetcher.blocks_landed(pending.blob, indexes)
