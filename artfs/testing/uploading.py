"""A large blob that tests send to a server part by part: four parts of a megabyte."""

from __future__ import annotations

from typing import Any

import httpx

from artfs.model.digests import digest_bytes
from artfs.testing.blobworld import BlobServer, BlobWorld, some_data

MIB = 1024 * 1024
DATA = some_data(3 * MIB + 12_345)
DIGEST = digest_bytes(DATA)
P, Q = "e/p", "e/q"
OCTETS = "application/octet-stream"


def begin(server: BlobServer, secret: str, digest: str = DIGEST, size: int = len(DATA), place: str = P) -> Any:
    answer = server.ask("POST", f"/v1/projects/{place}/uploads", secret, {"digest": digest, "size": size})
    assert answer.status == 200, answer.body
    return answer.json


def send(server: BlobServer, secret: str, upload: Any, number: int, data: bytes) -> int:
    path = f"/v1/uploads/{upload['id']}/parts/{number}"
    return server.ask("PUT", path, secret, data, content_type=OCTETS).status


def part(number: int) -> bytes:
    return DATA[number * MIB : (number + 1) * MIB]


def told(server: BlobServer, secret: str, upload: Any, *numbers: int) -> Any:
    body = {"parts": [{"number": number} for number in numbers]}
    return server.ask("POST", f"/v1/uploads/{upload['id']}/parts", secret, body).json


def read_all(world: BlobWorld) -> bytes:
    found = world.ledger.find(None, [DIGEST])[DIGEST]
    keys = [f"{found.key}.{number}" for number in range(4)]
    return b"".join(bytes(world.bucket.read(key, [(0, world.bucket.try_size(key) or 0)])[0]) for key in keys)


def want(server: BlobServer, secret: str, upload: Any, **sums: str) -> Any:
    body = {"parts": [], "want": [{"number": int(number[1:]), "sha256": sha256} for number, sha256 in sums.items()]}
    return server.ask("POST", f"/v1/uploads/{upload['id']}/parts", secret, body).json


def put(each: Any, data: bytes) -> int:
    return httpx.put(each["url"], content=data, headers=each.get("headers", {})).status_code
