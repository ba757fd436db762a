"""Settings: one frozen value with units, built once at each process's edge and passed in.

Sources, later ones win: the defaults here, the config file (TOML), the environment (`ARTFS_…`), the command line.
This file is one of the three that read the environment.
"""

from __future__ import annotations

import errno
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from artfs.errors import StorageError, UsageError

DEFAULT_ENTITY = "local"
DEFAULT_PROJECT = "uncategorized"
DEFAULT_FLOOR = 64 * 1024 * 1024
READ_ALL = (
    "updatedb", "updatedb.plocate", "updatedb.mlocate", "baloo_file", "baloo_file_extractor", "tracker-miner-fs-3",
    "tracker-extract-3", "localsearch-3", "localsearch-extractor-3", "recollindex", "restic", "borg", "kopia", "duplicity",
    "duplicacy", "rdiff-backup", "bup", "clamscan", "clamd", "clamdscan",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process of artfs can be told.

    Attributes (config key = attribute name; environment = `ARTFS_` + upper-case name):
        home: the state folder (catalog, store, drafts, sockets); made 0700 when missing.
        entity: whose projects stand at the root of the mount and complete a name without an entity.
        project: completes a name without a project.
        artifact_dir: where `download()` puts artifacts by default (reference: `./artifacts`).
        deadline_s: the longest that a system call on the mount may wait for anything, in seconds, > 0.
        alias_timeout_s: how long the kernel may believe the listing of a collection, in seconds, >= 0.
        poll_s: how often the daemon looks for changes of the catalog by other processes, in seconds, > 0.
        free_floor: bytes that must stay free on the state folder's file system; below it the store gets ENOSPC, and drafts
            somewhat (an eighth) above it, so that a draft can be committed. 0: none;
            None (not given): 64 MiB, but at most a fiftieth of the file system.
        allow_protected: protected aliases may be given, moved and removed (the Python API and the command line heed it, the
            mount never does it).
        workers: threads or processes for hashing and copying; 0: one for each CPU.
        reference_roots: folders that anybody's `file://` references may lead to. Without: only those that were added with
            this state folder.
        reference_hosts: hosts, addresses and networks ("nas.local", "10.0.0.0/8", "*") of private networks and of this
            machine that anybody's references may lead to. Without: only those that were added with this state folder.
        reference_credentials: where this machine's cloud credentials may go: buckets ("s3://bucket"), schemes ("s3", "gs",
            "azure") or "*". Without: to buckets that were added with this state folder, when the environment has
            credentials; other buckets are read anonymously.
        reference_cache: bytes of fetched references that the mount keeps at most; 0: none beyond those that are open.
        s3_endpoint, gs_endpoint, azure_endpoint: URLs of other object stores that speak these protocols; "": the vendor's
            (for S3 also what AWS_ENDPOINT_URL says).
        storage_region: what the store of the state folder is called, for `Artifact(storage_region=…)`; not empty.
        server: URL of the server that has the catalog ("https://artfs.example.org"); "": the embedded one in the state folder
            (ARTFS_SERVER set to nothing means that as well, whatever the config file says).
        token: what the server knows us by; "": the one that `artfs login` kept, if any. Never shown.
        ca_bundle: a PEM file with the certificates to trust instead of the system's; None: the system's.
        proxy: URL of an HTTP(S) or SOCKS proxy to the server and its bucket; "": what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
            NO_PROXY say.
        network_timeout_s: how long one call to a server may take, with all its retries, in seconds, > 0. What the mount
            waits for ends at `deadline_s` at the latest.
        cache_path: where blobs of servers are kept; made 0700 when missing. All processes of a user share it.
        cache_size: bytes that the cache may take, without what is pinned; None: a fifth of its file system.
        cache_floor: bytes that the cache leaves free on its file system; None: a twentieth of it, at most 10 GiB.
        no_prefetch: programs that read everything for their own sake (indexers, backups, virus scanners), by the kernel's name of
            them (/proc/PID/comm, 15 bytes): a mount with a server fetches what they read, and nothing ahead of them.
        metrics: where a mount serves Prometheus's metrics: "unix:PATH", "PORT" or "HOST:PORT" of this machine (needs
            `artfs[metrics]`); "": nowhere.
    """

    home: Path
    entity: str = DEFAULT_ENTITY
    project: str = DEFAULT_PROJECT
    artifact_dir: Path = Path("artifacts")
    deadline_s: float = 30.0
    alias_timeout_s: float = 1.0
    poll_s: float = 0.2
    free_floor: int | None = None
    workers: int = 0
    allow_protected: bool = False
    reference_roots: tuple[str, ...] = ()
    reference_hosts: tuple[str, ...] = ()
    reference_credentials: tuple[str, ...] = ()
    reference_cache: int = 8 * 1024**3
    s3_endpoint: str = ""
    gs_endpoint: str = ""
    azure_endpoint: str = ""
    storage_region: str = "default"
    server: str = ""
    token: str = field(default="", repr=False)
    ca_bundle: Path | None = None
    proxy: str = ""
    network_timeout_s: float = 30.0
    cache_path: Path = Path("~/.cache/artfs")
    cache_size: int | None = None
    cache_floor: int | None = None
    no_prefetch: tuple[str, ...] = READ_ALL
    metrics: str = ""

    @property
    def state_path(self) -> Path:
        """Where drafts and running daemons are kept: the state folder, or for a server a folder of its own in it, so that
        neither's drafts are ever committed to the other."""
        if not self.server:
            return self.home
        place = self.server.partition("://")[2] or self.server
        return self.home / "servers" / re.sub(r"[^A-Za-z0-9.-]+", "_", place).strip("_.")

    @property
    def catalog_path(self) -> Path:
        return self.home / "catalog.db"

    @property
    def store_path(self) -> Path:
        return self.home / "store"

    @property
    def drafts_path(self) -> Path:
        return self.state_path / "drafts"

    @property
    def run_path(self) -> Path:
        return self.state_path / "run"

    @property
    def log_path(self) -> Path:
        return self.state_path / "log"

    @property
    def worker_count(self) -> int:
        """`workers`, with 0 replaced by the number of CPUs that this process may use."""
        return self.workers or len(os.sched_getaffinity(0))

    def floor_on(self, disk: os.statvfs_result) -> int:
        """How many bytes must stay free on that file system."""
        if self.free_floor is not None:
            return self.free_floor
        return min(DEFAULT_FLOOR, disk.f_blocks * disk.f_frsize // 50)

    def with_changes(self, **changes: object) -> Settings:
        """A copy with the attributes that are not None in `changes` replaced."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]

    def make_home(self) -> None:
        """Creates the state folder and its parts (0700). Raises UsageError when it cannot, StorageError on a full disk."""
        try:
            own = (self.state_path.parent,) if self.server else (self.store_path,)
            for path in (self.home, *own, self.state_path, self.drafts_path, self.run_path, self.log_path):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError.wrap(error, f"making the state folder {self.home}") from error
            raise UsageError(
                f"cannot make the state folder {self.home}: {error.strerror}; set ARTFS_HOME to a folder you may write"
            ) from error


_LISTS = ("no_prefetch", "reference_roots", "reference_hosts", "reference_credentials")
"""Settings that are lists; in the environment with commas between their items."""

_CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
    "azure": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_CLIENT_ID"),
}


def ambient_credentials(environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """For which schemes the environment (None: the process's own) has cloud credentials."""
    env = os.environ if environ is None else environ
    return frozenset(scheme for scheme, names in _CREDENTIALS.items() if any(env.get(name) for name in names))


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """What systemd tells a service. `notify_socket`: see sd_notify(3). `sockets`: descriptors that it opened for this process
    (sd_listen_fds(3)). `credentials`: the folder of its credentials."""

    notify_socket: str | None = None
    sockets: tuple[int, ...] = ()
    credentials: Path | None = None


def service_environment(environ: Mapping[str, str] | None = None) -> ServiceEnvironment:
    """From the environment (None: the process's own)."""
    env = os.environ if environ is None else environ
    count = env.get("LISTEN_FDS", "0")
    is_ours = env.get("LISTEN_PID") == str(os.getpid())
    folder = env.get("CREDENTIALS_DIRECTORY")
    return ServiceEnvironment(
        notify_socket=env.get("NOTIFY_SOCKET") or None,
        sockets=tuple(range(3, 3 + int(count))) if is_ours and count.isascii() and count.isdigit() and len(count) < 5 else (),
        credentials=Path(folder) if folder else None,
    )


def wants_no_color(environ: Mapping[str, str] | None = None) -> bool:
    """Whether terminals get plain text: NO_COLOR is set, and not to nothing (no-color.org), or the terminal knows no more."""
    env = os.environ if environ is None else environ
    return bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """The config file, whether it is there or not."""
    env = os.environ if environ is None else environ
    return Path(env.get("ARTFS_CONFIG") or platformdirs.user_config_path("artfs") / "config.toml")


def _convert(name: str, value: object, source: str) -> object:
    try:
        if "\0" in str(value):
            raise ValueError("it holds a NUL")
        if name in ("home", "artifact_dir", "cache_path", "ca_bundle"):
            return Path(str(value)).expanduser()
        if name == "server" and value:
            return server_url(str(value))
        if name in ("deadline_s", "alias_timeout_s", "poll_s", "network_timeout_s"):
            number = float(str(value))
            if not number >= 0 or (number == 0 and name != "alias_timeout_s"):
                raise ValueError("must be positive")
            return number
        if name == "allow_protected":
            if str(value).lower() not in ("0", "1", "true", "false"):
                raise ValueError("must be true or false")
            return str(value).lower() in ("1", "true")
        if name in _LISTS:
            given = value if isinstance(value, list | tuple) else str(value).split(",")
            items = tuple(str(item).strip() for item in given if str(item).strip())
            return tuple(os.path.expanduser(item) for item in items) if name == "reference_roots" else items
        if name in ("free_floor", "workers", "reference_cache", "cache_size", "cache_floor"):
            whole = int(str(value))
            if whole < 0:
                raise ValueError("must not be negative")
            return whole
        return str(value)
    except (ValueError, RuntimeError) as error:  # RuntimeError: `~` of a user that there is not
        raise UsageError(f"{source}: bad value for {name}: {value!r} ({error})") from error


def server_url(text: str) -> str:
    """The base URL of a server, in one spelling. Raises ValueError."""
    if not text.isprintable() or " " in text:
        raise ValueError("an address has no spaces, and nothing that cannot be shown")
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write https://HOST[:PORT], or http://… for a server on this machine")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("only host, port and path are wanted; tokens go to `artfs login`")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Settings from the config file, the environment and `overrides` (None means: not given).

    Arguments:
        environ: the environment to read; None reads the process's own.
        overrides: attributes of Settings, as the command line gives them.
    Raises UsageError for an unreadable config file, an unknown key or a bad value.
    """
    return settings_and_sources(environ, **overrides)[0]


def settings_and_sources(environ: Mapping[str, str] | None = None, **overrides: object) -> tuple[Settings, dict[str, str]]:
    """As load_settings, and for each setting that is not its default where it came from, in words. Raises UsageError."""
    env = os.environ if environ is None else environ
    known = {field.name for field in fields(Settings)}
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    config = config_path(env)
    try:
        with config.open("rb") as stream:
            table = tomllib.load(stream)
    except FileNotFoundError:
        if env.get("ARTFS_CONFIG"):
            raise UsageError(f"ARTFS_CONFIG names {config}, which does not exist") from None
        table = {}
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no TOML, or no UTF-8
        raise UsageError(f"cannot read the config file {config}: {error}") from error
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{config}: unknown setting {key!r}; known are: {', '.join(sorted(known))}")
        values[key] = _convert(key, value, str(config))
        sources[key] = f"the config file {config}"
    for name in known:
        text = env.get(f"ARTFS_{name.upper()}")
        # An empty one is as if it were not set; but that of the server stands for "none".
        if text or (text is not None and name == "server"):
            values[name] = _convert(name, text, f"ARTFS_{name.upper()}")
            sources[name] = f"the environment, ARTFS_{name.upper()}"
    for name, given in overrides.items():
        if given is not None:
            values[name] = _convert(name, given, "argument")
            sources[name] = "the command line"
    home = values.pop("home", None)
    values.setdefault("cache_path", platformdirs.user_cache_path("artfs"))
    settings = Settings(
        home=(home if isinstance(home, Path) else platformdirs.user_data_path("artfs")).absolute(),
        **values,  # type: ignore[arg-type]
    )
    return settings, sources


_SECRET_NAME = re.compile(r"(?i)token|secret|passw|pwd|passphrase|key$|key_id$|apikey|credential|signature|cookie|_auth$|_dsn$")


def secret_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Values of the environment (None: the process's own) that are secret, as far as the names of their variables tell, and all
    that are URLs with somebody's name in them. For taking them out of what is shown."""
    env = os.environ if environ is None else environ
    return [
        value
        for name, value in env.items()
        if ("://" in value and "@" in value) or (_SECRET_NAME.search(name) and not (value[:1] == "/" and os.path.exists(value)))
    ]
