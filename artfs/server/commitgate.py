"""What the calls about names ask of the blobs: before a commit, and before a link to another project."""

from __future__ import annotations

from artfs.catalog.ledger import Ledger
from artfs.errors import BlobMissingError, NotFoundError
from artfs.model.records import Member, NewPart, NewVersion
from artfs.server.blobservice import BlobService
from artfs.server.calls import Call
from artfs.server.closure import Closure


class CommitGate:
    """Thread-safe. The callers' rights in both projects were looked at already."""

    def __init__(self, service: BlobService, names: Ledger) -> None:
        """`names`: writes down who makes a project."""
        self._ledger = service.ledger
        self._names = names
        self._closure = Closure(service)

    def before_commit(self, call: Call, new: NewVersion | NewPart) -> None:
        """See ServerParts. Raises what Closure.check_version raises."""
        project = self._ledger.project(new.entity, new.project)
        if project is None:
            # Whoever sends a blob to a project makes it.
            raise BlobMissingError(f"blob {new.digest} is not in the project", new.digest)
        if isinstance(new, NewVersion):
            self._closure.check_version(project.id, new.digest, new.size, new.file_count)
        else:
            self._closure.check(project.id, new.digest)

    def before_link(self, call: Call, member: Member, place: tuple[str, str]) -> None:
        """See ServerParts. Raises what Closure.share raises."""
        source = self._ledger.project(member.entity, member.project)
        if source is None:
            raise NotFoundError(f"there is no project {member.entity}/{member.project}")
        if (member.entity, member.project) == place:
            return
        target = self._ledger.project(*place) or self._names.acting(call.caller.actor).create_project(*place)
        self._closure.share(source.id, target.id, member.version.digest)
