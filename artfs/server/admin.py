"""Calls about tokens and the audit log, and who the caller is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from artfs.errors import NotFoundError
from artfs.model.access import AuditFilter, AuditRow, Grant, Token
from artfs.server.calls import Call, Endpoint, ServerParts
from artfs.wire import bodies
from artfs.wire.routes import SERVER_ROUTES, by_name


class Admin:
    """Thread-safe."""

    def __init__(self, parts: ServerParts) -> None:
        self._ledger = parts.ledger

    def endpoints(self) -> list[Endpoint]:
        routes = by_name(SERVER_ROUTES)
        functions = {
            "me": self.me, "tokens": self.tokens, "create_token": self.create_token, "revoke_token": self.revoke_token,
            "grant": self.grant, "audit": self.audit,
        }
        return [Endpoint(routes[name], run=function) for name, function in functions.items()]

    def me(self, call: Call) -> bodies.Me:
        token = call.caller.token
        if token is None:
            return bodies.Me(None, True, [], None, program_version())
        return bodies.Me(token.name, token.is_admin, _grants(token), token.expires_at, program_version())

    def tokens(self, call: Call) -> list[bodies.TokenShape]:
        return [token_shape(token) for token in self._ledger.tokens()]

    def create_token(self, call: Call) -> bodies.MadeToken:
        body: bodies.NewToken = call.body
        grants = [Grant(given.entity, given.project, given.role) for given in body.grants]
        token, secret = self._ledger.create_token(
            body.name, is_admin=body.is_admin, grants=grants, expires_at=body.expires_at, by=call.caller.actor
        )
        return bodies.MadeToken(token_shape(token), secret)

    def revoke_token(self, call: Call) -> None:
        self._ledger.revoke_token(call.arguments["token"], by=call.caller.actor)

    def grant(self, call: Call) -> bodies.TokenShape:
        body: bodies.GrantChange = call.body
        name, actor = call.arguments["token"], call.caller.actor
        if body.role is None:
            try:
                return token_shape(self._ledger.withdraw(name, body.entity, body.project, by=actor))
            except NotFoundError:
                # There was nothing to take, perhaps because an earlier try has. NotFoundError when there is no such token.
                return token_shape(self._ledger.token(name))
        return token_shape(self._ledger.grant(name, Grant(body.entity, body.project, body.role), by=actor))

    def audit(self, call: Call) -> list[bodies.AuditShape]:
        query: bodies.AuditQuery = call.query
        wanted = AuditFilter(query.actor, query.action, query.entity, query.project, query.since, query.until)
        rows = self._ledger.audit(wanted, before=query.before, limit=query.limit)
        return [audit_shape(row) for row in rows]


def _grants(token: Token) -> list[bodies.GrantBody]:
    return [bodies.GrantBody(grant.entity, grant.project, grant.role) for grant in token.grants]


def token_shape(token: Token) -> bodies.TokenShape:
    return bodies.TokenShape(
        token.id, token.name, token.is_admin, _grants(token), token.created_at, token.expires_at, token.revoked_at,
        token.used_at,
    )


def audit_shape(row: AuditRow) -> bodies.AuditShape:
    return bodies.AuditShape(
        row.id, row.at, row.actor.name, row.action, row.entity, row.project, row.target, row.detail
    )


def program_version() -> str:
    try:
        return version("artfs")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
