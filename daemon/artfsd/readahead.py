"""What will be read next, guessed from what was read. Pure: numbers in, numbers out.

`Pattern` is of one large blob, in blocks.

A blob may be read by several readers at once, and the kernel cuts one read into several that arrive a little out of
order; so up to `STREAMS` streams are followed, whoever reads, through whatever handle. A stream that has gone on for n
blocks is expected to go on for n / 16 more: a reader who stops anywhere has moved at most a sixteenth too much, and yet
the window of a long one soon covers what a far server has under way. (One that begins where the blob does and has gone
on for 32 MiB is of a reader who wants all of it, nearly always: it is expected to go on for a quarter.) Where one stream
after the other has the same length (columns of a row group, tensors, records), the next one is asked for as far as that
goes, and not beyond. Single reads here and there ask for nothing.
"""

from __future__ import annotations

STREAMS = 8
BEHIND = 4
"""Blocks (1 MiB) that a read may lie before the place where its stream is."""
BEFORE = 2
"""Blocks (512 KiB) that a read may be ahead of its stream."""
SHARE = 16
SURE = 128
SHARE_OF_ALL = 4
"""Whoever has read 32 MiB from the beginning on probably reads all, and is expected to go on for a quarter."""
MOST = 256
"""Blocks (64 MiB) that are asked for ahead at the most."""
WHOLE = 16
"""A blob of at most so many blocks (4 MiB) that is read from its beginning is wanted whole."""
LEAST_RUN = 3
"""Blocks of a stream whose length says something of the next one's."""


class _Stream:
    __slots__ = ("asked", "next", "start", "used")

    def __init__(self, start: int, following: int, used: int) -> None:
        self.start = start
        self.next = following
        self.asked = following
        self.used = used


class Pattern:
    """Of one blob of `count` blocks."""

    __slots__ = ("_clock", "_count", "_last", "_length", "_streams")

    def __init__(self, count: int) -> None:
        self._count = count
        self._streams: list[_Stream] = []
        self._clock = 0
        self._last = 0  # length of the stream that ended last
        self._length = 0  # of the two that ended last, when both had the same

    def note(self, first: int, stop: int) -> tuple[int, int] | None:
        """The blocks first … stop - 1 are read now. Returns (first, stop) of what to ask for ahead; None: nothing."""
        self._clock += 1
        stream = self._stream_at(first)
        if stream is None:
            stream = self._begin(first, stop)
        elif stop > stream.next:
            stream.next = stop
        stream.used = self._clock
        return self._ahead(stream)

    def _stream_at(self, first: int) -> _Stream | None:
        for stream in self._streams:
            if max(stream.start, stream.next - BEHIND) <= first <= max(stream.next, stream.asked - 1) + BEFORE:
                return stream
        return None

    def _begin(self, first: int, stop: int) -> _Stream:
        if len(self._streams) == STREAMS:
            oldest = min(self._streams, key=lambda stream: stream.used)
            self._streams.remove(oldest)
        if self._streams:
            newest = max(self._streams, key=lambda stream: stream.used)
            run = newest.next - newest.start
            # Reads of a length are rounded to blocks at both ends.
            self._length = run if run >= LEAST_RUN and abs(run - self._last) <= 1 else 0
            self._last = run
        stream = _Stream(first, stop, self._clock)
        self._streams.append(stream)
        return stream

    def _ahead(self, stream: _Stream) -> tuple[int, int] | None:
        run = stream.next - stream.start
        if stream.start == 0 and self._count <= WHOLE:
            until = self._count
        elif self._length and run < self._length:
            # One block less than the stream before, whose ends may have been shared by neighbours.
            until = min(stream.start + self._length - 1, stream.next + MOST)
        else:
            share = SHARE_OF_ALL if stream.start == 0 and run >= SURE else SHARE
            window = min(run // share, MOST)
            if stream.asked - stream.next > window // 2:
                return None  # half of it is still before us; the other half then comes in one range
            until = stream.next + window
        first = max(stream.asked, stream.next)
        until = min(until, self._count)
        if until <= first:
            return None
        stream.asked = until
        return first, until


class Walk:
    """Of the small files of one directory of `count` files, by their numbers in its listing, once one was not here when it was
    read.

    One file alone asks for nothing. From the second on that follows another (closely: a walker skips directories and
    what it does not want), the next `FEW` are wanted, then four times as many, up to `MANY`. Files here and there ask for
    `SHARE` others near them for each that was not here (fewer of large ones): whoever reads all of a directory in an order
    of their own soon has it, and whoever wants some of many has moved `SHARE` times as much.

    `eager`: directories like this one were read as a whole until now, so the first file asks for others at once.
    """

    FEW = 32
    MANY = 1024
    SKIPPED = 16
    SHARE = 16
    SHARE_NBYTES = 1024 * 1024

    __slots__ = ("_allowed", "_asked", "_chunks", "_count", "_eager", "_last", "_misses", "_nbytes", "_window")

    def __init__(self, count: int, *, eager: bool = False) -> None:
        self._count = count
        self._eager = eager
        self._last = -1
        self._asked = 0
        self._window = 0
        self._misses = 0
        self._nbytes = 0
        self._allowed = 0
        self._chunks: set[int] = set()  # of SHARE files each, that were asked for because of files near them

    @property
    def is_begun(self) -> bool:
        return self._last >= 0

    @property
    def is_through(self) -> bool:
        """Whether most of the directory was asked for."""
        return 2 * max(self._asked, len(self._chunks) * self.SHARE) >= self._count

    @property
    def is_eager(self) -> bool:
        return self._eager

    def all(self) -> tuple[int, int]:
        """All files are asked for. Returns (first, stop) of them."""
        self._asked = self._count
        self._window = self.MANY
        self._chunks.update(range(-(-self._count // self.SHARE)))
        return 0, self._count

    def note(self, index: int) -> tuple[int, int] | None:
        """File `index` is opened. Returns (first, stop) of files to ask for ahead; None: nothing."""
        if self._last < 0 or not -self.SKIPPED <= index - self._last <= self.SKIPPED:
            if index >= self._asked or index < self._last:
                self._window = 0
                self._asked = index + 1
                self._last = index
            return None
        if index <= self._last:
            return None  # several walkers of one directory
        self._last = index
        if index + 1 < self._asked - self._window // 2:
            return None  # half of what was asked for is still before us
        self._window = min(self._window * 4, self.MANY) if self._window else self.FEW
        first = max(self._asked, index + 1)
        self._asked = first + self._window
        return first, self._asked

    def note_miss(self, index: int, size: int) -> tuple[int, int] | None:
        """File `index`, of `size` bytes, is read and is not here. Returns as `note`."""
        self._misses += 1
        self._nbytes += size
        if self._misses == 1 and not self._eager:
            return None
        share = max(1, min(self.SHARE, self.SHARE_NBYTES * self._misses // max(self._nbytes, 1)))
        self._allowed += share * (4 if self._misses == 1 else self._misses if self._misses == 2 else 1)
        return self._near(index)

    def stopped(self, index: int) -> None:
        """What was returned last could be asked for up to file `index` only."""
        self._asked = min(self._asked, max(index, self._last + 1))
        gone = {chunk for chunk in self._chunks if chunk * self.SHARE >= index}
        self._chunks -= gone
        self._allowed += len(gone) * self.SHARE

    def _near(self, index: int) -> tuple[int, int] | None:
        """As many chunks as are allowed that were not asked for yet, from that of file `index` on."""
        wanted = self._allowed // self.SHARE
        chunks = -(-self._count // self.SHARE)
        if not wanted or len(self._chunks) == chunks:
            return None
        first = index // self.SHARE
        while first in self._chunks:
            first = (first + 1) % chunks
        stop = first
        while stop < chunks and stop - first < wanted and stop not in self._chunks:
            self._chunks.add(stop)
            stop += 1
        self._allowed -= (stop - first) * self.SHARE
        return first * self.SHARE, min(stop * self.SHARE, self._count)
