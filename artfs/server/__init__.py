"""The server: ASGI over a catalog, a ledger and a bucket (docs/server.md). Only `artfs serve` imports it."""
