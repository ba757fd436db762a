"""From an `Authorization` header to a caller. Runs on the event loop; looking a token up is the ledger's work, in a thread."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NoReturn

from artfs.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from artfs.model.access import Token, is_secret
from artfs.server.calls import Caller
from artfs.server.failures import Failures

KNOWN_S = 1.0
"""How long a token that was looked up is believed, in seconds: so much longer one works that was revoked."""

MAX_KNOWN = 10_000
"""Most tokens that are remembered."""


class Gate:
    """Lets callers in.

    Arguments:
        look_up: the token of a secret; raises UnauthorizedError (Ledger.authenticate, in a thread).
        open_to_all: no token is needed (`--no-auth`).
    """

    def __init__(
        self, look_up: Callable[[str], Awaitable[Token]], *, open_to_all: bool = False,
        failures: Failures | None = None,
    ) -> None:
        self._look_up = look_up
        self._open_to_all = open_to_all
        self._failures = failures or Failures()
        # By the SHA-256 of the secret: (token, when it was looked up).
        self._known: OrderedDict[bytes, tuple[Token, float]] = OrderedDict()

    async def caller(self, header: str | None, address: str) -> Caller:
        """Raises UnauthorizedError; RateLimitedError when too many came from that address with nothing that counts."""
        if self._open_to_all:
            return Caller(None)
        scheme, _, secret = (header or "").partition(" ")
        secret = secret.strip()
        if not header:
            # No guess, so it does not count as one.
            raise UnauthorizedError("this server wants a token: `artfs login`, or ARTFS_TOKEN")
        if scheme.lower() != "bearer" or not is_secret(secret):
            self._refuse(address)
        key = hashlib.sha256(secret.encode()).digest()
        token = self._remembered(key)
        if token is None:
            wait_s = self._failures.wait_s(address, time.monotonic())
            if wait_s > 0:
                raise RateLimitedError("too many tries with tokens that are not valid", wait_s)
            try:
                token = await self._look_up(secret)
            except UnauthorizedError:
                self._failures.note(address, time.monotonic())
                raise
            self._remember(key, token)
        if token.expires_at is not None and token.expires_at <= datetime.now(UTC):
            raise UnauthorizedError(f"the token {token.name!r} has expired; `artfs login` keeps a new one")
        return Caller(token)

    def _refuse(self, address: str) -> NoReturn:
        now = time.monotonic()
        wait_s = self._failures.wait_s(address, now)
        self._failures.note(address, now)
        if wait_s > 0:
            raise RateLimitedError("too many tries with tokens that are not valid", wait_s)
        raise UnauthorizedError("this is no token of artfs; `artfs login` keeps one")

    def _remembered(self, key: bytes) -> Token | None:
        found = self._known.get(key)
        if found is None or time.monotonic() - found[1] > KNOWN_S:
            return None
        return found[0]

    def _remember(self, key: bytes, token: Token) -> None:
        self._known[key] = (token, time.monotonic())
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def forbidden(caller: Caller, wanted: str, place: str) -> ForbiddenError:
    name = "" if caller.token is None else f" {caller.token.name!r}"
    return ForbiddenError(f"the token{name} is no {wanted} of {place}")
