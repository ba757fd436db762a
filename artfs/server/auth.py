"""From an `Authorization` header to a caller. Runs on the event loop; looking a token up is the ledger's work, in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from artfs.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from artfs.model.access import ROLES, Token, is_secret
from artfs.server.calls import Caller
from artfs.server.failures import Failures

LOOKED_UP_AT_ONCE = 4
"""Most tokens never seen before that are looked up at once: so many guesses more than the limit allows can be made."""

T = TypeVar("T")

KNOWN_S = 1.0
"""How long a token that was looked up is believed, in seconds: so much longer one works that was revoked."""

BAD_S = 10.0
"""How long one that is not valid is refused without another look, in seconds."""

MAX_KNOWN = 10_000
"""Most tokens that are remembered, of either kind."""


class Gate:
    """Lets callers in.

    What counts as a failure is a token that was not seen before: a daemon that goes on with a revoked one is refused from memory,
    and does not lock out who else is at its address. One that was valid the last time is looked at again whatever others did.

    Arguments:
        look_up: the token of a secret; raises UnauthorizedError (Ledger.authenticate, in a thread).
        open_to_all: no token is needed (`--no-auth`).
    """

    def __init__(
        self, look_up: Callable[[str], Awaitable[Token]], *, open_to_all: bool = False, failures: Failures | None = None,
    ) -> None:
        self._look_up = look_up
        self._open_to_all = open_to_all
        self._failures = Failures() if failures is None else failures
        # By the SHA-256 of the secret: what it was found to be, and when.
        self._known: OrderedDict[bytes, tuple[Token, float]] = OrderedDict()
        self._bad: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        # What is being looked up: many threads of a program that come with one token ask, and count, once.
        self._asked: dict[tuple[bytes, str], asyncio.Task[Token]] = {}
        self._guesses = asyncio.Semaphore(LOOKED_UP_AT_ONCE)

    async def caller(self, header: str | None, address: str) -> Caller:
        """Raises UnauthorizedError; RateLimitedError when too many came from that address with nothing that counts."""
        if self._open_to_all:
            return Caller(None)
        if not header:
            # No guess, so it does not count as one.
            raise UnauthorizedError("this server wants a token: `artfs login`, or ARTFS_TOKEN")
        key = hashlib.sha256(header.encode("utf-8", "surrogateescape")).digest()
        token = await self._token(header, key, address)
        if token.expires_at is not None and token.expires_at <= datetime.now(UTC):
            raise UnauthorizedError(f"the token {token.name!r} has expired; `artfs login` keeps a new one")
        return Caller(token)

    async def _token(self, header: str, key: bytes, address: str) -> Token:
        now = time.monotonic()
        known = self._known.get(key)
        if known is not None and now - known[1] <= KNOWN_S:
            return known[0]
        bad = self._bad.get(key)
        if bad is not None and now - bad[1] <= BAD_S:
            raise UnauthorizedError(bad[0])
        asked = self._asked.get((key, address))
        if asked is None:
            asked = asyncio.create_task(self._ask(header, key, address, is_known=known is not None))
            self._asked[key, address] = asked
            asked.add_done_callback(lambda task: self._answered((key, address), task))
        # Who hangs up takes nothing from the others.
        return await asyncio.shield(asked)

    def _answered(self, which: tuple[bytes, str], task: asyncio.Task[Token]) -> None:
        del self._asked[which]
        if not task.cancelled():
            task.exception()  # nobody may be left who takes it

    async def _ask(self, header: str, key: bytes, address: str, *, is_known: bool) -> Token:
        if is_known:
            return await self._find(header, key, address)
        async with self._guesses:
            # Only now: those before it in the queue may have used up what is allowed.
            if (wait_s := self._failures.wait_s(address, time.monotonic())) > 0:
                raise RateLimitedError("too many tries with tokens that are not valid", wait_s)
            return await self._find(header, key, address)

    async def _find(self, header: str, key: bytes, address: str) -> Token:
        now = time.monotonic()
        try:
            token = await self._look_up(read_secret(header))
        except UnauthorizedError as error:
            self._known.pop(key, None)
            self._failures.note(address, now)
            _remember(self._bad, key, (str(error), now))
            raise
        _remember(self._known, key, (token, now))
        return token


def read_secret(header: str) -> str:
    scheme, _, secret = header.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not is_secret(secret):
        raise UnauthorizedError("this is no token of artfs; `artfs login` keeps one")
    return secret


def _remember(where: OrderedDict[bytes, T], key: bytes, what: T) -> None:
    where[key] = what
    where.move_to_end(key)
    if len(where) > MAX_KNOWN:
        where.popitem(last=False)


def forbidden(caller: Caller, wanted: str, place: str) -> ForbiddenError:
    name = "" if caller.token is None else f" {caller.token.name!r}"
    cure = ""
    if caller.token is not None and wanted in ROLES and "/" in place:
        words = shlex.join(["artfs", "token", "grant", caller.token.name, place, wanted])
        cure = f"; an administrator of the server gives it that role with `{words}`"
    return ForbiddenError(f"the token{name} is no {wanted} of {place}{cure}")
