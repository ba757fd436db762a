"""`artfs.Api()`: looking things up without a run."""

from __future__ import annotations

from collections.abc import Mapping

from artfs.api.ambient import session_for
from artfs.api.artifact import Artifact, logged
from artfs.api.session import Session
from artfs.api.version import resolve
from artfs.errors import InvalidArgumentError, NotFoundError
from artfs.model.names import check_entity_name, check_project_name


class Api:
    """What is in the catalog."""

    def __init__(self, overrides: Mapping[str, str] | None = None, *, session: Session | None = None) -> None:
        """Opens the catalog.

        Arguments:
            overrides: "entity" and "project" that complete names instead of the settings'.
            session: an open session to use; None: as the config file and the environment say.
        Raises InvalidArgumentError, InvalidNameError, UsageError, CatalogError.
        """
        given = dict(overrides or {})
        self._session = session_for() if session is None else session
        settings = self._session.settings
        self._entity = check_entity_name(given.pop("entity", settings.entity))
        self._project = check_project_name(given.pop("project", settings.project))
        if given:
            raise InvalidArgumentError(
                f"unknown overrides: {', '.join(sorted(given))}; known are entity and project"
            )

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """The artifact `[[ENTITY/]PROJECT/]NAME[:ALIAS]`; ALIAS may be `vN` or `@TIME`; without one it is
        `latest`.

        `type`: what its type must be; None: any. Raises NotFoundError that says what there is instead;
        TypeConflictError (a ValueError); InvalidNameError.
        """
        state = resolve(self._session, name, entity=self._entity, project=self._project)
        state.check_type(type)
        return logged(state)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Whether `artifact` would find it, with this type if one is given. Raises InvalidNameError,
        CatalogError."""
        try:
            state = resolve(self._session, name, entity=self._entity, project=self._project)
        except NotFoundError:
            return False
        return type is None or state.member.version.type == type
