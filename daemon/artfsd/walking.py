"""What is fetched ahead for those who read the files of a version's directories: `readahead.Walk` guesses in one directory, and
`Walks` from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from artfs.errors import BadObjectError
from artfs.model.digests import BLOCKS_ABOVE
from artfs.model.entry import DirEntry, FileEntry
from artfs.model.tree import Directory
from artfsd.pages import PageLater
from artfsd.readahead import Walk

if TYPE_CHECKING:
    from artfsd.versions import Listing, Trees

AHEAD_NBYTES = 16 * 1024 * 1024
"""Bytes of small files that one guess asks for ahead at the most."""

NEXT_NBYTES = 8 * 1024 * 1024
"""So much of the directories behind one is asked for, while that is read as a whole."""

NEAR = 3
"""Directories of which files are read in order follow each other so closely: some have no files."""

EAGER_AFTER = 2
"""Directories that were read as a whole, after which others of that version probably are."""

T = TypeVar("T")


class Walks:
    """Of all versions that a mount shows. On the main thread."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        # Of the version that was walked last: directories of which files were read, and of which most were asked for.
        self._version = -1
        self._begun = 0
        self._through = 0
        self._coming: set[bytes] = set()  # paths of directories that were asked for as what comes next
        self._last = (b"", -9)  # parent, and position in it, of the directory that was begun last

    @property
    def has_begun(self) -> bool:
        return self._begun > 0

    def _begin(self, listing: Listing) -> Walk:
        """Files of another directory are read. It is eager when most directories before it were read as a whole."""
        version_id = listing.member.version.id
        if version_id != self._version:
            self._version = version_id
            self._begun = self._through = 0
            self._coming.clear()
        self._begun += 1
        eager = self._through >= EAGER_AFTER and 2 * self._through >= self._begun
        walk = listing.walk = Walk(listing.totals.count, eager=eager)
        return walk

    def missed(self, listing: Listing, index: int, size: int) -> None:
        """The small file `index` is read and is not here: from now on it is watched which ones come next."""
        walk = listing.walk
        if walk is None:
            walk = self._begin(listing)
            walk.note(index)
            if walk.is_eager:
                self._through += 1
                self._ask_for(listing, walk.all())
                self._ask_for_next(listing)
                return
        was_through = walk.is_through
        self._ask_for(listing, walk.note_miss(index, size))
        if walk.is_through and not was_through:
            self._through += 1

    def opened(self, listing: Listing, index: int) -> None:
        """File `index` is opened: asks for those ahead that will be next."""
        walk = listing.walk
        if walk is not None:
            self._ask_for(listing, walk.note(index))
        elif self._coming and listing.key[1] in self._coming and listing.key[0] == self._version:
            self._coming.discard(listing.key[1])
            self._begin(listing).all()
            self._through += 1
            self._ask_for_next(listing)

    def _ask_for(self, listing: Listing, ahead: tuple[int, int] | None) -> None:
        if ahead is None:
            return
        stopped = self._ask(listing.directory, *ahead)
        if stopped < ahead[1] and listing.walk is not None:
            listing.walk.stopped(stopped)

    def _ask(self, directory: Directory, at: int, stop: int) -> int:
        """Asks for the small files from `at` on. Returns where it stopped."""
        wanted: list[tuple[str, int]] = []
        nbytes = 0
        while at < stop and nbytes <= AHEAD_NBYTES:
            try:
                for position, entry in directory.entries(at):
                    if position >= stop or nbytes > AHEAD_NBYTES:
                        break
                    at = position + 1
                    if isinstance(entry, FileEntry) and 0 < entry.size <= BLOCKS_ABOVE:
                        wanted.append((entry.digest, entry.size))
                        nbytes += entry.size
                else:
                    at = stop  # the directory ends
            except PageLater as later:
                if not self._trees.pages.load_near(later.digest):
                    break  # nobody waits for a guess
        self._trees.blobs.prefetch(wanted)
        return at

    def _ask_for_next(self, listing: Listing) -> None:
        """The directories behind this one in their parent, if the one before it was the last that was begun."""
        parent, _, name = listing.key[1].rpartition(b"/")
        above = self._trees.known_listing((listing.key[0], parent))
        if above is None or not name:
            return
        nbytes = 0
        try:
            place = self._near(lambda: above.directory.lookup(name))
            if place is None:
                return
            last, self._last = self._last, (parent, place[0])
            if last[0] != parent or not 0 < place[0] - last[1] <= NEAR:
                return
            for _, entry in above.directory.entries(place[0] + 1):
                if nbytes >= NEXT_NBYTES or not isinstance(entry, DirEntry):
                    return
                path = (parent + b"/" if parent else b"") + entry.name
                if path not in self._coming and self._is_new((listing.key[0], path)):
                    directory = self._near(partial(Directory.of, self._trees.pages, entry))
                    self._coming.add(path)
                    self._ask(directory, 0, len(directory))
                nbytes += entry.size
        except (PageLater, BadObjectError):
            return  # whoever gets there waits for the page, and is told what is wrong with it

    def _near(self, make: Callable[[], T]) -> T:
        """Raises PageLater when a page that it needs is not in memory."""
        while True:
            try:
                return make()
            except PageLater as later:
                if not self._trees.pages.load_near(later.digest):
                    raise

    def _is_new(self, key: tuple[int, bytes]) -> bool:
        known = self._trees.known_listing(key)
        return known is None or known.walk is None
