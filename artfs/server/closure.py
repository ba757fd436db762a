"""What a commit must find out before it: that all that a tree names is in the project, and is what the tree says it is.

Pages that a commit has found whole are *closed*: the ledger keeps their shapes (model.shape), and they are not read again, nor
is anything below them looked at. So the check costs what is new: of a version of a million files in which one changed, a few
pages. What is looked at is touched, so that garbage collection leaves it alone until the commit is made (or given up); what is
below a closed page needs no touch, because a touched closed page keeps it (artfs/server/gc.py).

A digest opens nothing: what the project has not is missing, whoever else has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from artfs.catalog.blobledger import BATCH, Held
from artfs.errors import BadObjectError, BlobMissingError, UnavailableError, UsageError
from artfs.model.blocklist import has_lower_list
from artfs.model.entry import FileEntry
from artfs.model.pages import MAX_PAGE_BYTES, LeafPage, Page, decode_page
from artfs.model.shape import Outline, Shape, check_root, decode_shape, encode_shape
from artfs.server.blobservice import BlobService, lower_list
from artfs.server.reachable import batches, read_all

TOLD = 1000
"""So many missing digests are told; there may be more."""

TOO_LONG_US = 30 * 60 * 1_000_000
"""A check that takes longer is made again: what it touched first must still be safe when the commit comes."""


class _File(NamedTuple):
    """What an entry says of a blob. `blocks`: "" for none. `page`: which one says it."""

    size: int
    blocks: str
    page: str


class Closure:
    """Thread-safe."""

    def __init__(self, service: BlobService) -> None:
        self._service = service
        self._ledger = service.ledger

    def check(self, project_id: int, root: str, *, on_files: Callable[[int], None] = lambda number: None) -> Shape:
        """All of the tree is in the project, touched; returns what it is. `on_files`: told how many more were looked at.

        Raises BlobMissingError (with digests that are not there), BadObjectError for a tree that is none, or that says what
        is not so of a blob or of another page. Nothing was changed then but touches.
        """
        began = self._ledger.now()
        walk = _Walk(self._service, project_id, on_files)
        walk.go_down(root)
        walk.need_all(root)
        new = walk.go_up(root)
        check_root(root, walk.shapes[root])
        if self._ledger.now() - began > TOO_LONG_US:
            raise UnavailableError("checking the tree took too long; try again (what was found stays)")
        self._ledger.close_trees(project_id, {digest: encode_shape(walk.shapes[digest]) for digest in new})
        return walk.shapes[root]

    def check_version(self, project_id: int, root: str, size: int, file_count: int) -> None:
        """As `check`, and UsageError for totals that are not the tree's."""
        shape = self.check(project_id, root)
        if (shape.size, shape.file_count) != (size, file_count):
            raise UsageError(
                f"the tree {root} has {shape.file_count:,} files of {shape.size:,} bytes, not {file_count:,} of {size:,}"
            )

    def share(self, source_id: int, target_id: int, root: str) -> None:
        """The target project has, too, all that the tree `root` of the source needs, which is a version's. Raises QuotaError,
        with nothing but some rows left in the target that no version needs."""
        if source_id == target_id:
            return
        wanted = _Wanted(self._service, source_id, target_id)
        todo = [root]
        seen = {root}
        shapes: dict[str, bytes] = {}
        while todo:
            closed = {digest for digest, held in self._ledger.hold(target_id, todo).items() if held.shape is not None}
            todo = [digest for digest in todo if digest not in closed]
            held = self._ledger.hold(source_id, todo)
            shapes |= {digest: each.shape for digest, each in held.items() if each.shape is not None}
            below: dict[str, None] = {}
            for digest, page in _read_pages(self._service, source_id, todo):
                wanted.add(digest)
                below.update(dict.fromkeys(each for each in Outline(digest, page).below if each not in seen))
                if isinstance(page, LeafPage):
                    wanted.add_files(page)
            todo = list(below)
            seen.update(todo)
        wanted.share()
        self._ledger.close_trees(target_id, shapes)


class _Wanted:
    """What a project is to get from another, in large portions."""

    def __init__(self, service: BlobService, source_id: int, target_id: int) -> None:
        self._service = service
        self._source_id = source_id
        self._target_id = target_id
        self._digests: dict[str, None] = {}
        self._long: dict[str, None] = {}  # block lists in two levels

    def add(self, digest: str) -> None:
        self._digests[digest] = None
        if len(self._digests) >= BATCH:
            self.share()

    def add_files(self, page: LeafPage) -> None:
        for entry in page.entries:
            if type(entry) is FileEntry:
                self.add(entry.digest)
                if entry.blocks:
                    self.add(entry.blocks.hex())
                    if has_lower_list(entry.size):
                        self._long[entry.blocks.hex()] = None

    def share(self) -> None:
        """Raises QuotaError; BlobMissingError when the source has not all of it (any more)."""
        digests = [*self._digests, *_lower_lists(self._service, self._source_id, self._long)]
        self._digests, self._long = {}, {}
        for some in batches(dict.fromkeys(digests), BATCH):
            absent = self._service.ledger.share(self._source_id, self._target_id, some)
            if absent:
                raise _missing(sorted(absent))


class _Walk:
    """One check: down through the pages that are new, then up again."""

    def __init__(self, service: BlobService, project_id: int, on_files: Callable[[int], None]) -> None:
        self._service = service
        self._on_files = on_files
        self._ledger = service.ledger
        self._project_id = project_id
        self._files: dict[str, _File] = {}
        self._missing: dict[str, None] = {}
        self._outlines: dict[str, Outline] = {}
        self.shapes: dict[str, Shape] = {}

    def go_down(self, root: str) -> None:
        level = [root]
        seen = {root}
        while level and len(self._missing) < TOLD:
            held = self._ledger.hold(self._project_id, level)
            self._missing.update(dict.fromkeys(digest for digest in level if digest not in held))
            unread = []
            for digest, each in held.items():
                if each.shape is not None:
                    self.shapes[digest] = decode_shape(each.shape)
                elif each.size > MAX_PAGE_BYTES:
                    raise BadObjectError(f"the tree {digest} is damaged: {each.size:,} bytes are no page", digest)
                else:
                    unread.append(digest)
            below: dict[str, None] = {}
            for digest, page in _read_pages(self._service, self._project_id, unread):
                self._outlines[digest] = outline = Outline(digest, page)
                below.update(dict.fromkeys(each for each in outline.below if each not in seen))
                if isinstance(page, LeafPage):
                    self._add_files(digest, page)
            level = list(below)
            seen.update(level)
        self._look_at_files()

    def need_all(self, root: str) -> None:
        if self._missing:
            raise _missing(list(self._missing))

    def go_up(self, root: str) -> list[str]:
        """Computes shapes; returns the pages for which it did."""
        new: list[str] = []
        todo = [root]
        while todo:
            digest = todo[-1]
            if digest in self.shapes:
                todo.pop()
                continue
            outline = self._outlines[digest]
            unknown = [below for below in outline.below if below not in self.shapes]
            if unknown:
                todo += unknown
                continue
            self.shapes[digest] = outline.shape(self.shapes.__getitem__)
            new.append(digest)
            todo.pop()
        return new

    def _add_files(self, page: str, leaf: LeafPage) -> None:
        for entry in leaf.entries:
            if type(entry) is not FileEntry:
                continue
            said = _File(entry.size, entry.blocks.hex(), page)
            known = self._files.setdefault(entry.digest, said)
            if known[:2] != said[:2]:
                # One of both is wrong; which one, the ledger knows.
                self._look_at_files()
                self._files[entry.digest] = said
        if len(self._files) >= BATCH:
            self._look_at_files()

    def _look_at_files(self) -> None:
        files, self._files = self._files, {}
        tops = {each.blocks: None for each in files.values() if each.blocks}
        held = self._ledger.hold(self._project_id, [*files, *(top for top in tops if top not in files)])
        for digest, said in files.items():
            each = held.get(digest)
            if each is None:
                self._missing[digest] = None
            else:
                _compare(digest, said, each)
        self._missing.update(dict.fromkeys(top for top in tops if top not in held))
        # Only now: which lists there are, and what they name, was computed here, and is not what a tree says.
        long = {each.blocks: None for each in files.values() if has_lower_list(each.size) and each.blocks in held}
        lower = _lower_lists(self._service, self._project_id, long)
        there = self._ledger.hold(self._project_id, lower)
        self._missing.update(dict.fromkeys(digest for digest in lower if digest not in there))
        self._on_files(len(files))


def _compare(digest: str, said: _File, held: Held) -> None:
    if said.size != held.size:
        what = f"blob {digest} has {held.size:,} bytes, not {said.size:,}"
    elif said.blocks != held.blocks:
        what = f"{said.blocks or 'nothing'} is not the block list of blob {digest}"
    else:
        return
    raise BadObjectError(f"the tree {said.page} is damaged: {what}", said.page)


def _read_pages(service: BlobService, project_id: int, digests: list[str]) -> Iterator[tuple[str, Page]]:
    """Decoded and checked. Raises BadObjectError; BlobMissingError for one that went in the meantime."""
    for digest, data in read_all(service, project_id, digests):
        yield digest, decode_page(digest, data)


def _lower_lists(service: BlobService, project_id: int, tops: Iterable[str]) -> list[str]:
    """What the block lists name that are in two levels."""
    named = (lower_list(data) for _, data in read_all(service, project_id, tops))
    return list(dict.fromkeys(lower for lower in named if lower is not None))


def _missing(digests: list[str]) -> BlobMissingError:
    more = f" and {len(digests) - 1:,} more" if len(digests) > 1 else ""
    return BlobMissingError(f"blob {digests[0]}{more} is not in the project", digests[0], tuple(digests[:TOLD]))
