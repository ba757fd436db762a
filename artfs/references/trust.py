"""Whom a reference may lead to.

A version may have been logged by somebody else, so its references are hostile until they are known: what the user of this
state folder added himself (`KnownSources`, like ssh's known_hosts), or what the settings allow.

    file://                 known, or below `reference_roots`
    loopback, link-local and private addresses, at first or after a redirect
                            known, or in `reference_hosts`
    this machine's cloud credentials
                            known and in the environment, or in `reference_credentials`
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from artfs.errors import ReferenceRefusedError, StorageError
from artfs.references.uris import file_path, origin, scheme_of, shown
from artfs.settings import Settings, ambient_credentials

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address (in text; an IPv6 zone may stand behind it) is one of the internet's."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if inside is None and ip in _NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
    return ip.is_global and not ip.is_multicast


def host_matches(rules: Iterable[str], host: str, address: str) -> bool:
    """Whether a rule (a host name, an address, a network such as 10.0.0.0/8, or "*") names `host` or its `address`."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    for rule in rules:
        if rule == "*" or rule.lower() == host.lower():
            return True
        try:
            network = ipaddress.ip_network(rule, strict=False)
        except ValueError:
            continue  # a host's name
        if ip in network:
            return True
    return False


class KnownSources:
    """The origins of references that this user added, one a line in a file of the state folder. Thread-safe; other
    processes may add some."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._seen = (-1, -1)

    def add(self, uri: str) -> None:
        """Raises StorageError."""
        source = origin(uri)
        with self._lock:
            self._refresh()
            if source in self._known:
                return
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                try:
                    os.write(fd, os.fsencode(source) + b"\n")
                finally:
                    os.close(fd)
            except OSError as error:
                raise StorageError.wrap(error, "writing down where a reference leads") from error
            self._known.add(source)

    def __contains__(self, uri: str) -> bool:
        source = origin(uri)
        with self._lock:
            self._refresh()
            if source in self._known:
                return True
            if scheme_of(uri) != "file" or ".." in file_path(uri).split("/"):
                return False
            while (at := source.rfind("/")) > len("file://"):
                source = source[:at]
                if source in self._known:
                    return True
            return "file:///" in self._known

    def _refresh(self) -> None:
        try:
            status = os.stat(self._path)
            fingerprint = (status.st_size, status.st_mtime_ns)
            if fingerprint != self._seen:
                self._known = set(os.fsdecode(self._path.read_bytes()).split("\n"))
                self._known.discard("")
                self._seen = fingerprint
        except FileNotFoundError:
            self._known = set()
        except OSError as error:
            raise StorageError.wrap(error, "reading where references may lead") from error


class Trust:
    """The rules of one state folder. `known`: what its user added himself."""

    def __init__(self, settings: Settings, known: KnownSources) -> None:
        self.known = known
        self._roots = [os.path.realpath(root) for root in settings.reference_roots]
        self._hosts = settings.reference_hosts
        self._credentials = settings.reference_credentials
        self._ambient = ambient_credentials()

    def check_file(self, uri: str, real_path: str) -> None:
        """`real_path`: where `uri` leads after all symbolic links. Raises ReferenceRefusedError."""
        if uri in self.known:
            return
        if not any(real_path == root or real_path.startswith(root.rstrip("/") + "/") for root in self._roots):
            raise ReferenceRefusedError(
                f"{uri} was not added here, and is not read: it could be any file of this machine; "
                "the setting reference_roots names folders that references may lead to"
            )

    def may_connect(self, url: str, host: str, address: str) -> bool:
        """Whether `url` may be asked for at `address`, which its `host` has."""
        return is_public(address) or url in self.known or host_matches(self._hosts, host, address)

    def refused_host(self, url: str, host: str) -> ReferenceRefusedError:
        """What to raise when it may not."""
        return ReferenceRefusedError(
            f"{shown(url)} is not read: {host} is in a private network (or this machine), and nobody added it here; "
            "the setting reference_hosts names hosts and networks that references may lead to"
        )

    def may_sign(self, uri: str) -> bool:
        """Whether this machine's cloud credentials may go to where `uri` leads."""
        scheme = scheme_of(uri)
        source = origin(uri)
        if any(rule in ("*", scheme, source) for rule in self._credentials):
            return True
        return scheme in self._ambient and uri in self.known
