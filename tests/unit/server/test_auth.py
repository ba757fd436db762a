"""Tokens at the door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from artfs.errors import RateLimitedError, UnauthorizedError
from artfs.model.access import COMMAND_LINE, Grant, Token, new_secret
from artfs.server import auth
from artfs.server.auth import Gate
from artfs.server.failures import FailureRates, Failures

from .conftest import OPEN, E, World


def test_a_token_is_a_bearers(world: World) -> None:
    secret = world.tokens["root"]
    for header in (f"Bearer {secret}", f"bearer  {secret} "):
        assert world.asgi.request("GET", "/v1/me", headers=[("authorization", header)]).json["name"] == "root"
    for header in (f"Basic {secret}", secret, "Bearer", f"Bearer {secret}x"):
        answer = world.asgi.request("GET", "/v1/me", headers=[("authorization", header)])
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_it_says_whom_it_takes_us_for(world: World) -> None:
    world.token("ann", (E, OPEN, "writer"))
    me = world.get("/v1/me", "ann").json
    assert (me["name"], me["is_admin"], me["expires_at"]) == ("ann", False, None)
    assert me["grants"] == [{"entity": E, "project": OPEN, "role": "writer"}]


def test_tokens_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "KNOWN_S", 0.0)
    world.token("ann", (E, OPEN, "reader"))
    assert world.get("/v1/me", "ann").status == 200
    assert world.ask("DELETE", "/v1/tokens/ann").status == 204
    answer = world.get("/v1/me", "ann")
    assert (answer.status, answer.json["kind"]) == (401, "unauthorized")
    soon = datetime.now(UTC) + timedelta(milliseconds=400)
    grants = [Grant(E, OPEN, "reader")]
    world.tokens["bob"] = world.ledger.create_token("bob", grants=grants, expires_at=soon, by=COMMAND_LINE)[1]
    assert world.get("/v1/me", "bob").status == 200
    while datetime.now(UTC) < soon:
        pass
    assert world.get("/v1/me", "bob").status == 401


def test_a_known_token_that_expires_is_not_believed_on(world: World) -> None:
    """Although it is remembered for a second."""
    past = Token(1, "x", True, (), datetime.now(UTC), expires_at=datetime.now(UTC) + timedelta(seconds=0.05))

    async def look_up(secret: str) -> Token:
        return past

    async def run() -> None:
        gate = Gate(look_up)
        header = f"Bearer {new_secret()}"
        assert (await gate.caller(header, "a")).token is past
        assert past.expires_at is not None
        await asyncio.sleep(max(0.0, (past.expires_at - datetime.now(UTC)).total_seconds()) + 0.001)
        with pytest.raises(UnauthorizedError, match="expired"):
            await gate.caller(header, "a")

    asyncio.run(run())


def test_too_many_failures_are_refused_unseen(world: World) -> None:
    good = world.tokens["root"]
    assert world.get("/v1/me").status == 200
    for _ in range(5):
        answer = world.asgi.request("GET", "/v1/me", token=new_secret())
        assert answer.status == 401
    answer = world.asgi.request("GET", "/v1/me", token=new_secret())
    assert (answer.status, answer.json["kind"]) == (429, "rate-limited")
    assert int(answer.headers["retry-after"]) >= 1
    # Whoever was let in a moment ago goes on.
    assert world.asgi.request("GET", "/v1/me", token=good).status == 200


def test_calls_without_a_token_are_no_guesses(world: World) -> None:
    for _ in range(20):
        assert world.get("/v1/me", None).status == 401
    assert world.get("/v1/me").status == 200


def test_a_limited_address_does_not_reach_the_database() -> None:
    asked: list[str] = []

    async def look_up(secret: str) -> Token:
        asked.append(secret)
        raise UnauthorizedError("no")

    async def run() -> None:
        gate = Gate(look_up, failures=Failures(FailureRates(burst=2, per_s=0.001)))
        for number in range(10):
            with pytest.raises(UnauthorizedError if number < 2 else RateLimitedError):
                await gate.caller(f"Bearer {new_secret()}", "192.0.2.1")
        with pytest.raises(UnauthorizedError):
            await gate.caller(f"Bearer {new_secret()}", "192.0.2.2")

    asyncio.run(run())
    assert len(asked) == 3


def refusing(asked: list[str]) -> Callable[[str], Awaitable[Token]]:
    """Knows no token, after a while; notes which it was asked for."""

    async def look_up(secret: str) -> Token:
        asked.append(secret)
        await asyncio.sleep(0.001)
        raise UnauthorizedError("no")

    return look_up


def test_who_guesses_all_at_once_is_refused_as_well() -> None:
    asked: list[str] = []

    async def run() -> None:
        rates = FailureRates(burst=20, per_s=0.001, overall_burst=100, overall_per_s=0.001)
        gate = Gate(refusing(asked), failures=Failures(rates))
        guesses = [gate.caller(f"Bearer {new_secret()}", "192.0.2.1") for _ in range(500)]
        found = await asyncio.gather(*guesses, return_exceptions=True)
        assert {type(each) for each in found} == {UnauthorizedError, RateLimitedError}
        assert len(asked) < 20 + auth.LOOKED_UP_AT_ONCE
        # Nor is anybody else locked out by it.
        with pytest.raises(UnauthorizedError):
            await gate.caller(f"Bearer {new_secret()}", "192.0.2.2")

    asyncio.run(run())


def test_a_token_that_many_threads_repeat_counts_once() -> None:
    secret = new_secret()
    asked: list[str] = []

    async def run() -> None:
        gate = Gate(refusing(asked), failures=Failures(FailureRates(burst=2, per_s=0.001)))
        calls = [gate.caller(f"Bearer {secret}", "a") for _ in range(30)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in found} == {UnauthorizedError}
        with pytest.raises(UnauthorizedError):
            await gate.caller(f"Bearer {new_secret()}", "a")

    asyncio.run(run())
    assert len(asked) == 2


def test_its_memory_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_KNOWN", 3)

    async def look_up(secret: str) -> Token:
        return Token(1, "x", True, (), datetime.now(UTC))

    async def run() -> int:
        gate = Gate(look_up)
        for _ in range(10):
            await gate.caller(f"Bearer {new_secret()}", "a")
        return len(gate._known)

    assert asyncio.run(run()) == 3


def test_a_stale_daemon_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with one token that is not valid any more; others at its address come in, old and new ones."""
    monkeypatch.setattr(auth, "KNOWN_S", 0.0)
    stale, known, late = new_secret(), new_secret(), new_secret()
    asked: list[str] = []

    async def look_up(secret: str) -> Token:
        asked.append(secret)
        if secret in (known, late):
            return Token(1, "x", True, (), datetime.now(UTC))
        raise UnauthorizedError("revoked")

    async def run() -> None:
        gate = Gate(look_up, failures=Failures(FailureRates(burst=3, per_s=0.001)))
        await gate.caller(f"Bearer {known}", "a")
        for _ in range(50):
            with pytest.raises(UnauthorizedError, match="revoked"):
                await gate.caller(f"Bearer {stale}", "a")
        assert asked.count(stale) == 1
        await gate.caller(f"Bearer {late}", "a")
        for _ in range(3):
            with pytest.raises((UnauthorizedError, RateLimitedError)):
                await gate.caller(f"Bearer {new_secret()}", "a")
        # Somebody guesses from there now. Who was let in before is let in again.
        with pytest.raises(RateLimitedError):
            await gate.caller(f"Bearer {new_secret()}", "a")
        await gate.caller(f"Bearer {known}", "a")

    asyncio.run(run())


def test_a_use_is_written_down(world: World) -> None:
    world.token("ann", (E, OPEN, "reader"))
    assert world.ledger.token("ann").used_at is None
    world.get("/v1/me", "ann")
    for _ in range(500):
        if world.ledger.token("ann").used_at is not None:
            return
        world.get("/healthz", None)
    raise AssertionError("nobody noted the use")


def test_administrators_make_and_change_tokens(world: World) -> None:
    grants = [{"entity": E, "project": "*", "role": "reader"}]
    made = world.ask("POST", "/v1/tokens", "root", {"name": "ci", "grants": grants}).json
    world.tokens["ci"] = made["secret"]
    assert world.get(f"/v1/projects/{E}/{OPEN}", "ci").status == 200
    assert [token["name"] for token in world.get("/v1/tokens").json] == ["ci", "root"]
    assert made["secret"] not in world.asgi.request("GET", "/v1/tokens", token=world.tokens["root"]).body.decode()
    body = {"entity": E, "project": OPEN, "role": "writer"}
    assert len(world.ask("PATCH", "/v1/tokens/ci/grants", "root", body).json["grants"]) == 2
    body = {"entity": E, "project": "*", "role": None}
    assert world.ask("PATCH", "/v1/tokens/ci/grants", "root", body).json["grants"] == [
        {"entity": E, "project": OPEN, "role": "writer"}
    ]
    # Again, as after a lost answer.
    assert world.ask("PATCH", "/v1/tokens/ci/grants", "root", body).status == 200
    assert world.ask("PATCH", "/v1/tokens/nobody/grants", "root", body).status == 404
    assert world.ask("POST", "/v1/tokens", "root", {"name": "ci"}).status == 409
    assert world.ask("DELETE", "/v1/tokens/ci").status == 204
    assert world.ask("DELETE", "/v1/tokens/ci").status == 404


def test_every_change_is_in_the_audit_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.token("ann", (E, OPEN, "writer"))
    member = world.ids[f"{OPEN}/member"]
    world.ask("PATCH", f"/v1/members/{member}/aliases", "ann", {"add": ["prod"]})
    world.ask("POST", "/v1/tokens", "root", {"name": "ci"})
    rows = world.get("/v1/audit?limit=2").json
    assert [(row["actor"], row["action"]) for row in rows] == [("root", "token.create"), ("ann", "set_aliases")]
    assert (rows[1]["entity"], rows[1]["project"]) == (E, OPEN)
    assert "prod" in str(rows[1]["detail"])
    older = world.get(f"/v1/audit?before={rows[1]['id']}&limit=1").json
    assert older[0]["id"] < rows[1]["id"]
    assert [row["action"] for row in world.get("/v1/audit?actor=ann").json] == ["set_aliases"]
    for secret in world.tokens.values():
        assert secret not in world.get("/v1/audit").body.decode()
        assert secret not in caplog.text


