"""The process's own session and active runs: what `artfs.Artifact(…).save()` means without being told.

The reference's interface needs one such place (an Artifact is made without a session, and the run that logs
it is "the current one"); this is it, and everything below takes its collaborators as arguments.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref

from artfs.api.session import Remote, Session, open_session
from artfs.api.tracking import Tracker
from artfs.catalog.base import Catalog
from artfs.errors import InvalidArgumentError
from artfs.settings import Settings, load_settings


class _Ambient:
    """`latest` keeps the newest session open although nobody uses it at the moment; older ones live as long
    as an artifact, run or Api that came from them, and are closed with the last."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.latest: Session | None = None
        self.sessions: weakref.WeakValueDictionary[Settings, Session] = weakref.WeakValueDictionary()
        self.runs: list[Tracker] = []

    def leave_parent(self) -> None:
        # A child after a fork must use neither the parent's database connections nor end the parent's runs.
        if self.pid != os.getpid():
            self.__init__()  # type: ignore[misc]


_ambient = _Ambient()


def session_for(settings: Settings | None = None) -> Session:
    """The open session for these settings, opened when there is none.

    `settings` None: as the config file and the environment say now, so that a change of ARTFS_HOME is
    followed.
    Raises what `load_settings` and `open_session` raise.
    """
    wanted = load_settings() if settings is None else settings
    _ambient.leave_parent()
    with _ambient.lock:
        session = _ambient.sessions.get(wanted)
        if session is None:
            session = open_session(wanted)
            weakref.finalize(session, _close, session.catalog, os.getpid())
            if session.remote is not None:
                # At the end of the process its threads need not be waited for.
                weakref.finalize(session, _close, session.remote, os.getpid()).atexit = False
            _ambient.sessions[wanted] = session
        if settings is None:
            _ambient.latest = session
        return session


def _close(part: Catalog | Remote, pid: int) -> None:
    # A forked child that ends must not hang up on its parent.
    if os.getpid() == pid:
        part.close()


def enter_run(tracker: Tracker) -> None:
    """Makes it the current run until `leave_run`; one that is still running when the process ends is finished
    then."""
    _ambient.leave_parent()
    with _ambient.lock:
        if not _ambient.runs:
            atexit.unregister(_finish_runs)
            atexit.register(_finish_runs)
        _ambient.runs.append(tracker)


def leave_run(tracker: Tracker) -> None:
    with _ambient.lock:
        if tracker in _ambient.runs:
            _ambient.runs.remove(tracker)


def current_run() -> Tracker | None:
    """The most recently begun run of this process that is not finished."""
    _ambient.leave_parent()
    with _ambient.lock:
        return _ambient.runs[-1] if _ambient.runs else None


def current_session() -> Session:
    """The session of the current run, else the process's own."""
    run = current_run()
    return run.session if run else session_for()


def check_region(region: str, settings: Settings | None = None) -> str:
    """Returns `region` if the store is called so. `settings` None: the current run's, else the process's own; no
    session is opened. Raises InvalidArgumentError for another name, TypeError for what is no text."""
    if not isinstance(region, str):
        raise TypeError(f"a storage region must be a str, not {type(region).__name__}")
    if settings is None:
        run = current_run()
        settings = run.session.settings if run else load_settings()
    if region != settings.storage_region:
        raise InvalidArgumentError(
            f"there is no storage region {region!r}: everything is stored in {settings.storage_region!r}, the store of "
            f"the state folder {settings.home}"
        )
    return region


def _finish_runs() -> None:
    _ambient.leave_parent()
    # Python notes the exception that ends a process there.
    state = "finished" if getattr(sys, "last_value", None) is None else "failed"
    for tracker in _ambient.runs:
        tracker.try_finish(state)
