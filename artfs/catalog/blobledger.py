"""What a server knows about bytes: which project has which blob, and where it is in the bucket. The interface; `SqlBlobLedger` is
over the same database as the catalog. Knows names of objects, never their bytes.

A project *has* a blob when there is a row that says so. Only through such a row can a blob be read, counted as sent, or be
committed. A row is *touched* when somebody relies on it: garbage collection leaves alone what was touched within the grace
period. Not every touch is written down: a row counts as touched for `touch_every_us` after the last one that was, and whoever
deletes must add that to the grace period.

All calls are blocking and thread-safe; each is one transaction, or several that may stand alone. UnavailableError, CatalogError:
the database cannot be asked.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from artfs.model.access import SERVER, Actor, Token
from artfs.model.records import Project

BATCH = 10_000
"""Most digests of one call."""


class Found(NamedTuple):
    """Where the bytes of a blob are.

    Attributes:
        key: the object that it is in; for a large one the beginning of the keys of its parts (`part_keys`).
        offset: where it begins in the object.
        object_size: bytes of that object; of the blob, when it has the object to itself.
        part_size: 0 in a pack.
        blocks: digest of its block list as the server computed it; "" for none.
        project_id: a project that has it, and that the caller may read.
        whole: who may read the blob may read all of the object. Not so when it is in a pack of another project.
    """

    digest: str
    size: int
    key: str
    offset: int
    object_size: int
    part_size: int
    blocks: str
    project_id: int
    whole: bool

    @property
    def is_packed(self) -> bool:
        return self.part_size == 0


class Held(NamedTuple):
    """A blob that a project has. `blocks` as above. `shape`: of a page of a tree with everything below it in the project
    (model.shape, encoded); None: not known to be one."""

    size: int
    blocks: str
    shape: bytes | None


class Packed(NamedTuple):
    digest: str
    size: int
    offset: int


class NewPack(NamedTuple):
    key: str
    size: int
    blobs: Sequence[Packed]


class NewObject(NamedTuple):
    """A blob that has objects to itself, verified. `blocks`: "" for none."""

    digest: str
    size: int
    key: str
    part_size: int
    blocks: str = ""


DONE_PREFIX = "done/"


class Upload(NamedTuple):
    """A large blob on its way. `key`: the beginning of the keys of its parts. `parts`: SHA-256 (hex, "" when nobody said) of
    those that were sent, by number. `promised`: of those for which a URL was signed."""

    id: str
    project: Project
    digest: str
    size: int
    key: str
    part_size: int
    parts: Mapping[int, str]
    promised: Mapping[int, str]

    @property
    def part_count(self) -> int:
        """How many it has in all."""
        return part_count(self.size, self.part_size)

    @property
    def is_done(self) -> bool:
        """The project has the blob. Kept for a while, for a sender that did not get the answer; without objects."""
        return self.key.startswith(DONE_PREFIX)

    def part_key(self, number: int) -> str:
        return self.key if self.part_count == 1 else f"{self.key}.{number}"

    def part_nbytes(self, number: int) -> int:
        return min(self.part_size, self.size - number * self.part_size)


class Row(NamedTuple):
    """That a project has a blob, as a sweep sees it. Time in microseconds since 1970 UTC."""

    project_id: int
    digest: str
    size: int
    is_closed: bool
    touched_at: int


class Root(NamedTuple):
    """A tree that a project needs: of a version in it, or linked to it, or of a part of one to come."""

    project_id: int
    digest: str


class PackUse(NamedTuple):
    """`project_id`: whose pack it is. `used`: bytes of blobs in it that some project has, with their heads."""

    id: int
    project_id: int
    key: str
    size: int
    used: int


class Usage(NamedTuple):
    """Of a project's blobs. `quota`: bytes; None: as many as there is room for."""

    blobs: int
    nbytes: int
    quota: int | None


def part_count(size: int, part_size: int) -> int:
    return max(1, -(-size // part_size))


def part_keys(key: str, size: int, part_size: int) -> list[str]:
    """The objects of a blob that has objects to itself: `key`, or `key.0`, `key.1` … when it is larger than a part."""
    count = part_count(size, part_size)
    return [key] if count == 1 else [f"{key}.{number}" for number in range(count)]


# Keys. All are random, so that none is used twice; that of a blob also tells people what it is.
_BLOB_KEY = re.compile(r"blobs/[0-9a-f]{2}/([0-9a-f]{64})-[0-9a-f]+(?:\.\d+)?")


def new_pack_key() -> str:
    name = secrets.token_hex(16)
    return f"packs/{name[:2]}/{name}"


def new_blob_key(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}-{secrets.token_hex(8)}"


def new_upload_key() -> str:
    """For parts that are copied to a blob's key when they are checked."""
    return f"uploads/{secrets.token_hex(16)}"


def digest_of_key(key: str) -> str | None:
    """Of the blob whose object, or part, has that key; None for other keys."""
    found = _BLOB_KEY.fullmatch(key)
    return found[1] if found else None


class BlobLedger(Protocol):
    @property
    def touch_every_us(self) -> int: ...

    def now(self) -> int:
        """Microseconds since 1970 UTC, by the clock that stamps rows."""
        ...

    def identity(self, *, make: bool = False) -> str | None:
        """Which bucket is this database's (32 hex digits); None: no server has begun yet. `make`: then it is made up."""
        ...

    # projects ---------------------------------------------------------------------------------------------------
    def project(self, entity: str, name: str, *, make: bool = False) -> Project | None:
        """The living one; `make`: made when it is missing (never None then)."""
        ...

    def project_by_id(self, project_id: int) -> Project | None:
        """Deleted ones, too."""
        ...

    def projects(self) -> list[Project]:
        """All of them, deleted ones too, by id."""
        ...

    def set_quota(self, project_id: int, quota: int | None, *, by: Actor = SERVER) -> None:
        """And writes down in the audit log who did it."""
        ...

    def usage(self, project_id: int) -> Usage: ...

    # reading ----------------------------------------------------------------------------------------------------
    def find(self, reader: Token | None, digests: Sequence[str], project_id: int | None = None) -> dict[str, Found]:
        """Where the blobs are, of those that the token may read (None: everything is). `project_id`: only what this project
        has."""
        ...

    def reads_object(self, reader: Token | None, key: str) -> int | None:
        """Bytes of the object `key` (a pack, or a part of a blob) when all of it may be read; None: not, or there is none."""
        ...

    # writing ----------------------------------------------------------------------------------------------------
    def hold(self, project_id: int, digests: Collection[str]) -> dict[str, Held]:
        """Those that the project has, touched."""
        ...

    def add(
        self, project_id: int, pack: NewPack | None = None, objects: Sequence[NewObject] = (), *, upload: Upload | None = None
    ) -> list[NewObject]:
        """The project has these blobs from now on; their bytes are in the bucket already. Rows that are there are touched.
        Returns those whose blob has other objects already, which nobody needs then: never one whose own objects these are.
        `upload`: the upload that it was, as it was read, which is done (perhaps once more). Raises QuotaError, and
        NotFoundError when the upload has gone or was begun anew, under another key; nothing was changed then."""
        ...

    def check_quota(self, project_id: int, nbytes: int) -> None:
        """Raises QuotaError when so many bytes more are too many."""
        ...

    def close_trees(self, project_id: int, shapes: Mapping[str, bytes]) -> None:
        """Everything below these pages of trees was found in the project, and touched."""
        ...

    def share(self, source_id: int, target_id: int, digests: Collection[str]) -> set[str]:
        """The target has, too, what the source has of these, from now on (touched there). Returns those that the source has not.
        Raises QuotaError."""
        ...

    # uploads ----------------------------------------------------------------------------------------------------
    def begin_upload(self, project_id: int, digest: str, size: int, part_size: int, key: str) -> Upload:
        """The upload of that blob to that project which is under way, touched, or a new one with that key."""
        ...

    def upload(self, upload_id: str) -> Upload | None: ...

    def promise_part(self, upload_id: str, number: int, sha256: str) -> bool:
        """Notes for which bytes of a part a URL is signed. False: other bytes were promised before."""
        ...

    def add_parts(self, upload_id: str, parts: Mapping[int, str]) -> None:
        """These parts were sent (SHA-256 or ""); the upload is touched. Nothing happens when there is no such upload."""
        ...

    def drop_parts(self, upload_id: str, numbers: Collection[int]) -> None:
        """They turned out not to be there, or to be wrong."""
        ...

    def restart_upload(self, upload: Upload, key: str) -> bool:
        """Its parts go to other objects, and none is there yet. False, and nothing was changed, when the upload is not what
        `upload` says any more: it is done, has gone, or somebody else was first. Then its objects are nobody's to delete."""
        ...

    def drop_upload(self, upload_id: str) -> Upload | None:
        """Ends it; returns what it was."""
        ...

    # garbage collection -----------------------------------------------------------------------------------------
    def roots(self, deleted_since: int) -> list[Root]:
        """What versions need: living ones, those deleted at that time or later, and parts of versions to come."""
        ...

    def rows(self, after: Row | None, limit: int, *, closed: bool = False) -> list[Row]:
        """Of all projects, by digest and project, those behind `after`. `closed`: trees with all below them only."""
        ...

    def open_trees(self, project_id: int, digests: Collection[str], before: int) -> None:
        """What is below these pages is not vouched for any more, if they were last touched before that time."""
        ...

    def remove(self, project_id: int, digests: Collection[str], before: int) -> int:
        """The project has them no more, if they were last touched before that time, and are no closed trees. How many went."""
        ...

    def remove_blobs(self, limit: int) -> list[tuple[str, int, int]]:
        """Blobs with objects of their own that no project has: forgets at most `limit`, and returns their (key, size, part size).
        Their objects are to be deleted; whoever dies before that leaves them for `unknown_keys`."""
        ...

    def remove_packs(self, limit: int, before: int) -> list[str]:
        """Likewise packs that were made, or emptied by `move_packs`, before that time: their keys."""
        ...

    def packs_to_move(self, small: int, before: int, head: int) -> list[PackUse]:
        """Packs made before that time of which less than half is used, or that are smaller than `small` bytes; by project.
        `head`: bytes in a pack beside each blob."""
        ...

    def pack_blobs(self, pack_id: int) -> list[Packed]:
        """What is in a pack and some project has, by offset."""
        ...

    def move_packs(self, pack_ids: Collection[int], new: NewPack) -> bool:
        """Everything that is in these packs of one project is in the new one from now on, all of their `pack_blobs`. They are
        empty then, and count as made now. False: there was nothing, or something that is not in the new one; nothing was
        changed then."""
        ...

    def stale_uploads(self, before: int, limit: int) -> list[Upload]:
        """Ends uploads that were last touched before that time, and returns them."""
        ...

    def unknown_keys(self, keys: Collection[str]) -> set[str]:
        """Those of these objects that belong to no blob, pack or upload, and may not become one: objects of a blob that somebody
        uploads stay, whichever they are."""
        ...
