"""A project of its own for each test that shares a mount with others."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from artfs.api.session import Session, open_session
from artfs.model.records import Member, NewVersion
from artfs.testing.mount import Daemon
from artfs.transfer.push import push_directory
from artfs.wire.control import CommitOptions, CommitReply

REPLY_TIMEOUT_S = 60.0


@dataclass
class Corner:
    """The project `name` in the mount of `daemon`, which belongs to whoever runs the tests."""

    daemon: Daemon
    name: str

    @property
    def mount(self) -> Path:
        return self.daemon.mountpoint

    @property
    def path(self) -> Path:
        """Its folder of collections. It exists once something is logged or committed to it."""
        return self.mount / self.name

    @property
    def drafts(self) -> Path:
        """Its folder of drafts, made when missing."""
        path = self.mount / "drafts" / self.name
        path.mkdir(exist_ok=True)
        return path

    def begin(self, name: str = "c") -> Path:
        """A new draft: `c` (empty) or `c:ALIAS`. Returns its folder."""
        path = self.drafts / name
        path.mkdir()
        return path

    def session(self) -> Session:
        """The state folder, opened as another process would. A context manager."""
        return open_session(self.daemon.workspace.settings)

    def log(
        self,
        folder: Path,
        collection: str = "c",
        *,
        aliases: tuple[str, ...] = (),
        refresh: bool = True,
        **fields: Any,
    ) -> Member:
        """Logs a folder as `artfs log` does, then (`refresh`) waits until the mount shows it."""
        with self.session() as session:
            with session.store.begin((session.settings.entity, self.name)) as batch:
                pushed = push_directory(batch, folder)
                batch.sync()
                member = session.catalog.commit(
                    NewVersion(
                        entity=session.settings.entity,
                        project=self.name,
                        collection=collection,
                        type=fields.pop("type", "dataset"),
                        digest=pushed.root,
                        size=pushed.totals.size,
                        file_count=pushed.totals.file_count,
                        aliases=aliases,
                        **fields,
                    )
                ).member
        if refresh:
            self.refresh()
        return member

    def refresh(self) -> None:
        """Has the daemon look at the catalog now, and the kernel forget what moved."""
        self.daemon.client().call("refresh", timeout_s=REPLY_TIMEOUT_S)

    def barrier(self) -> None:
        """One request through the mount: files closed before it are then known to the daemon as closed."""
        assert not (self.mount / ".artfs" / f"barrier-{uuid.uuid4()}").exists()

    def commit(self, draft: str = "c", **options: Any) -> CommitReply:
        """Commits a draft as `artfs commit` does, without the start of a process."""
        self.barrier()
        arguments = {
            "project": self.name,
            "draft": draft,
            "options": msgspec.to_builtins(CommitOptions(**options)),
        }
        return msgspec.convert(
            self.daemon.client().call("commit", arguments, timeout_s=REPLY_TIMEOUT_S), CommitReply
        )

    def artfs(self, *arguments: str | os.PathLike[str], check: bool = True) -> Any:
        """The command line, as Workspace.artfs."""
        return self.daemon.workspace.artfs(*arguments, check=check)

    def verify_store(self) -> None:
        """Every blob that is a whole file of this machine is what its name says."""
        self.artfs(*(["verify", "--store"] if self.daemon.workspace.server is None else ["cache", "verify"]))
