"""`artfs serve`."""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artfs.cli.common import App, artfs_command, pass_app
from artfs.cli.output import say
from artfs.errors import MissingExtraError, UsageError
from artfs.settings import service_environment

if TYPE_CHECKING:
    from artfs.server.serve import ServeOptions

DEFAULT_LISTEN = "127.0.0.1:8790"


@artfs_command("serve")
@click.option(
    "--listen", metavar="HOST:PORT", default=DEFAULT_LISTEN, show_default=True, help="Where to listen; port 0: any free one."
)
@click.option(
    "--database", metavar="URL", envvar="ARTFS_DATABASE",
    help="A file, or postgresql://USER@HOST/NAME. [default: server/catalog.db in the state folder; env: ARTFS_DATABASE]",
)
@click.option(
    "--blobs", metavar="URL", envvar="ARTFS_BLOBS",
    help="A folder, or s3://, gs:// or az://BUCKET/PREFIX. [default: server/blobs in the state folder; env: ARTFS_BLOBS]",
)
@click.option("--migrate", is_flag=True, help="Bring the database to this program's schema first, when it is older.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that answer.")
@click.option("--tls-cert", type=click.Path(dir_okay=False, path_type=Path), help="Certificate with its chain, in PEM.")
@click.option("--tls-key", type=click.Path(dir_okay=False, path_type=Path), help="Its key, in PEM (PKCS#8).")
@click.option("--no-auth", is_flag=True, help="Take every call from this machine, without tokens.")
@click.option(
    "--trust-proxy", multiple=True, metavar="ADDRESS",
    help="Believe what this address or network says of who calls (X-Forwarded-For); repeatable.",
)
@click.option(
    "--metrics", metavar="[HOST:]PORT", help="Serve Prometheus's metrics there, without tokens. [default host: 127.0.0.1]"
)
@click.option("--no-access-log", is_flag=True, help="Do not write a line of JSON for each request to stderr.")
@click.option(
    "--stop-timeout", type=click.FloatRange(0, 3600), default=30.0, metavar="SECONDS", show_default=True,
    help="How long requests under way may go on after SIGTERM.",
)
@click.option(
    "--stop-delay", type=click.FloatRange(0, 3600), default=0.0, metavar="SECONDS", show_default=True,
    help="How long at least /readyz says no before the end, for balancers to notice.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True,
    help="What the server logs.",
)
@pass_app
def command(app: App, /, **given: Any) -> None:
    """Serve a catalog to other machines.

    Names are in the database, bytes in a folder or bucket; any number of servers may share both. Callers need a token
    (`artfs token create`), and the server refuses to listen where others can reach it before there is one. It ends with
    SIGTERM when requests under way are done; SIGHUP starts its processes anew, with the certificate as it is then.

    \b
    Examples:
      artfs serve --no-auth
      artfs token create ann --admin
      artfs serve --listen 0.0.0.0:8790 --tls-cert server.pem --tls-key server.key
      artfs serve --database postgresql://artfs@db/artfs --blobs s3://team-artifacts/artfs --workers 2
    """
    try:
        from artfs.server import parts, serve
    except ImportError as error:
        raise MissingExtraError(
            f"a server needs packages that are not installed ({error.name}): pip install 'artfs[server]'"
        ) from error
    home = app.settings.home / "server"
    places = parts.Places(given["database"] or home / "catalog.db", given["blobs"] or home / "blobs")
    options = _options(given)
    local = _is_local(options)
    if options.open_to_all and not local:
        raise UsageError("--no-auth is for servers that listen on 127.0.0.1 or ::1 only")
    has_tokens = parts.prepare(places, migrate=given["migrate"], is_exposed=not local)
    if not has_tokens and not options.open_to_all:
        app.note("nobody can use this server yet: `artfs token create NAME --admin` makes a token")
    serve.serve(options, partial(parts.open_parts, places), lambda url: say(f"artfs serves {url}"))


def _options(given: dict[str, Any]) -> ServeOptions:
    from artfs.server.peers import parse_networks
    from artfs.server.serve import ServeOptions

    environment = service_environment()
    if (given["tls_cert"] is None) != (given["tls_key"] is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    host, port = _address(given["listen"], None)
    return ServeOptions(
        host=host,
        port=port,
        sockets=environment.sockets,
        workers=given["workers"],
        tls=None if given["tls_cert"] is None else (given["tls_cert"], given["tls_key"]),
        open_to_all=given["no_auth"],
        proxies=parse_networks(given["trust_proxy"]),
        metrics=None if given["metrics"] is None else _address(given["metrics"], "127.0.0.1"),
        access_log=not given["no_access_log"],
        linger_s=given["stop_delay"],
        drain_s=max(given["stop_timeout"], given["stop_delay"]),
        log_level=given["log_level"],
        notify_socket=environment.notify_socket,
    )


def _address(text: str, default_host: str | None) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon and default_host is not None:
        host = default_host
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"bad address {text!r}: write HOST:PORT, such as {DEFAULT_LISTEN} or [::1]:8790")
    return host, int(port)


def _is_local(options: ServeOptions) -> bool:
    """Whether only this machine can reach it."""
    if options.sockets:
        with socket.socket(fileno=options.sockets[0]) as given:
            address = given.getsockname()
            is_unix = given.family == socket.AF_UNIX
            given.detach()
        return is_unix or ipaddress.ip_address(address[0]).is_loopback
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"cannot find the address of {options.host}: {error}") from error
    return all(ipaddress.ip_address(str(place[4][0]).partition("%")[0]).is_loopback for place in found)
