"""A server's blobs without HTTP, or with it but without a socket: ledger, bucket and catalog of a test's own, and ways to fill
them as clients do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.engine import Clock, Database, system_clock
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.catalog.sql.postgresql.opening import open_url
from artfs.catalog.sql.sqlite.opening import open_file
from artfs.model.access import COMMAND_LINE, Grant, Role, Token
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.entry import Entry, FileEntry
from artfs.model.manifest import BuiltManifest, build_manifest
from artfs.model.records import Member, NewVersion, Project
from artfs.server.app import make_app
from artfs.server.blobs import Blobs
from artfs.server.blobservice import BlobService
from artfs.server.calls import ServerParts
from artfs.server.closure import Closure
from artfs.server.commitgate import CommitGate
from artfs.server.gc import Collected, collect_garbage
from artfs.store.bucket import Bucket
from artfs.store.verify import hash_bytes
from artfs.testing.asgi import Answer, Asgi
from artfs.wire.frames import MEDIA_TYPE, FrameReader, encode_frames

HOUR_US = 3600 * 1_000_000


class Hands:
    """A clock that a test moves. Microseconds since 1970; each look is a microsecond later than the one before."""

    def __init__(self) -> None:
        self.now = system_clock()

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def move(self, hours: float) -> None:
        self.now += round(hours * HOUR_US)


class BlobWorld:
    """`database`: a file or PostgreSQL's URL, with the current schema. `clock`: of the database, None: one that a test moves."""

    def __init__(
        self, database: Path | str, bucket: Bucket, *, clock: Clock | None = None,
        make_ledger: Callable[[Database], SqlBlobLedger] = SqlBlobLedger,
    ) -> None:
        self.clock: Any = Hands() if clock is None else clock
        self.catalog: SqlCatalog = (
            open_file(database, clock=self.clock) if isinstance(database, Path) else open_url(database, clock=self.clock)
        )
        self.names = SqlLedger(self.catalog.database)
        self.ledger = make_ledger(self.catalog.database)
        self.bucket = bucket
        self.service = BlobService(self.ledger, bucket, clock=lambda: self.clock() / 1e6)
        self.closure = Closure(self.service)

    def close(self) -> None:
        self.service.close()
        self.catalog.close()

    def __enter__(self) -> BlobWorld:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # who and where ----------------------------------------------------------------------------------------------
    def project(self, name: str = "p", entity: str = "e") -> Project:
        found = self.ledger.project(entity, name, make=True)
        assert found is not None
        return found

    def token(self, *grants: str, admin: bool = False) -> Token:
        """Each "entity/project role"."""
        return self.token_and_secret(*grants, admin=admin)[0]

    def token_and_secret(self, *grants: str, admin: bool = False) -> tuple[Token, str]:
        given = []
        for grant in grants:
            place, _, role = grant.partition(" ")
            entity, _, project = place.partition("/")
            given.append(Grant(entity, project, cast(Role, role)))
        name = f"t{len(self.names.tokens())}"
        return self.names.create_token(name, grants=given, is_admin=admin, by=COMMAND_LINE)

    # filling ----------------------------------------------------------------------------------------------------
    def put(self, project: Project, *blobs: bytes) -> list[str]:
        """Small blobs, as one request brings them."""
        self.service.store(project.id, frames(*blobs))
        return [digest_bytes(data) for data in blobs]

    def build(self, files: Mapping[str, bytes]) -> tuple[BuiltManifest, dict[str, bytes]]:
        """The trees of a version with small files, and all its blobs by digest."""
        entries: dict[str, Entry] = {path: file_entry(path, data) for path, data in files.items()}
        built = build_manifest(entries)
        return built, {**{digest_bytes(data): data for data in files.values()}, **dict(built.objects)}

    def send(self, project: Project, blobs: Mapping[str, bytes]) -> None:
        """As a client does: what is missing only."""
        missing = self.service.missing(project.id, list(blobs)).digests
        if missing:
            self.put(project, *(blobs[digest] for digest in missing))

    def commit(self, files: Mapping[str, bytes], where: str = "p", collection: str = "c") -> Member:
        project = self.project(where)
        built, blobs = self.build(files)
        self.send(project, blobs)
        return self.commit_tree(project, built, collection)

    def commit_tree(self, project: Project, built: BuiltManifest, collection: str = "c") -> Member:
        new = NewVersion(
            project.entity, project.name, collection, "dataset", built.root, built.totals.size, built.totals.file_count
        )
        self.closure.check_version(project.id, new.digest, new.size, new.file_count)
        return self.catalog.commit(new).member

    def link(self, member: Member, where: str, collection: str = "linked") -> Member:
        target, source = self.project(where), self.project(member.project)
        self.closure.share(source.id, target.id, member.version.digest)
        return self.catalog.link(member.version.id, target.entity, target.name, collection)

    def collect(self, grace_s: float = 24 * 3600.0, **options: Any) -> Collected:
        return collect_garbage(self.catalog, self.service, grace_s=grace_s, **options)

    # looking ----------------------------------------------------------------------------------------------------
    def has(self, project: Project, digest: str) -> bool:
        """Without touching it."""
        return digest in self.ledger.find(None, [digest], project.id)

    def read(self, reader: Token | None, *digests: str) -> dict[str, bytes]:
        """As a client gets them, unchecked."""
        planned, _ = self.service.plan_read(reader, digests)
        return dict(unframed(b"".join(self.service.frames(planned))))

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(each.key for each in self.bucket.objects(prefix))

    def settle(self) -> None:
        """Waits for what is deleted beside answers."""
        self.service.settle()

    def serve(self, *, part_size: int = BLOCKS_ABOVE) -> BlobServer:
        """A server over it. Parts of uploads have `part_size` bytes."""
        return BlobServer(self, part_size)


class BlobServer:
    """An application over a world, without a socket. A context manager."""

    def __init__(self, world: BlobWorld, part_size: int) -> None:
        blobs = Blobs(world.service, world.names, part_size=part_size)
        gate = CommitGate(world.service, world.names)
        parts = ServerParts(
            world.catalog, world.names, endpoints=blobs.endpoints(), before_commit=gate.before_commit,
            before_link=gate.before_link,
        )
        self.asgi = Asgi(make_app(parts))

    def __enter__(self) -> BlobServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.asgi.close()

    def ask(self, method: str, target: str, secret: str | None, body: Any = None, **headers: str) -> Answer:
        """`body`: what JSON can say, or bytes (as `content_type` says), or a list of bytes that come one by one."""
        given = {"content_type": "application/json", **headers}
        raw = isinstance(body, bytes) or (isinstance(body, list) and body and isinstance(body[0], bytes))
        content: Any = body if raw else msgspec.json.encode(body)
        sent = [(name.replace("_", "-"), value) for name, value in given.items()]
        return self.asgi.request(method, target, token=secret, body=content, headers=sent)

    def send_frames(self, secret: str, place: str, body: bytes) -> Answer:
        return self.ask("POST", f"/v1/projects/{place}/blobs", secret, body, content_type=MEDIA_TYPE)

    def upload(self, secret: str, place: str, data: bytes, digest: str = "") -> list[dict[str, Any]]:
        """All of a blob; the lines of `finish`. `digest`: what is claimed, if it is not the right one."""
        begun = self.ask(
            "POST", f"/v1/projects/{place}/uploads", secret, {"digest": digest or digest_bytes(data), "size": len(data)}
        ).json
        for part in begun.get("parts", []):
            start = part["number"] * begun["part_size"]
            sent = self.ask(
                "PUT", part["url"], secret, data[start : start + part["size"]], content_type="application/octet-stream"
            )
            assert sent.status == 204, sent.body
        return self.finish(secret, begun["id"])

    def finish(self, secret: str, upload_id: str) -> list[dict[str, Any]]:
        answer = self.ask("POST", f"/v1/uploads/{upload_id}/finish", secret, {})
        assert answer.status == 200, answer.body
        return [msgspec.json.decode(line) for line in answer.body.splitlines()]


def file_entry(path: str, data: bytes, *, blocks: str | None = None, size: int | None = None) -> FileEntry:
    """What stands in a tree for a file with these bytes, or what somebody who lies writes there."""
    content = hash_bytes(data).content
    told = content.blocks if blocks is None else blocks
    name = path.rpartition("/")[2].encode()
    return FileEntry(
        name, len(data) if size is None else size, bytes.fromhex(content.digest), bytes.fromhex(told), False
    )


def frames(*blobs: bytes) -> bytes:
    return b"".join(encode_frames((digest_bytes(data), data) for data in blobs))


def unframed(body: bytes) -> list[tuple[str, bytes]]:
    reader = FrameReader(max_total=1 << 40)
    found = list(reader.feed(body))
    reader.finish()
    return found


def some_data(size: int, seed: object = 1) -> bytes:
    """Bytes without a pattern, the same ones each time."""
    return hashlib.shake_128(str(seed).encode()).digest(size)
