"""Who is at the other end, when proxies may stand between. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from artfs.errors import UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks ("10.0.0.0/8", "::1"). Raises UsageError."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            raise UsageError(f"bad address or network {text!r}: {error}") from None
    return tuple(found)


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address that a request came from: the peer's own; or, when that is a proxy of ours, the last one in
    `X-Forwarded-For` that is none (what stands before it, anybody may have written).

    Arguments:
        peer: whom the connection is with.
        forwarded: the values of all X-Forwarded-For headers, in their order.
        trusted: where our proxies are.
    """
    address = peer
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and is_in(address, trusted):
        address = _bare(hops.pop())
    return address


def is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def is_loopback(host: str) -> bool:
    """Whether a name or address to listen on, or a `Host` header without its port, is this machine's own."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bare(hop: str) -> str:
    """Without a port: "1.2.3.4:5", "[::1]:5"."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
