"""Commands about servers: with a real one, on a database alone, and with none."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from artfs.cli.commands import login
from artfs.cli.common import App
from artfs.cli.main import cli
from artfs.settings import Settings, config_path, load_settings
from artfs.testing.serving import ServerProcess, artfs_serve

from .conftest import Artfs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[ServerProcess]:
    with artfs_serve("--home", home, environ={"ARTFS_CONFIG": "/dev/null"}) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with artfs_serve("--home", tmp_path_factory.mktemp("open"), "--no-auth", environ={"ARTFS_CONFIG": "/dev/null"}) as server:
        yield server


@pytest.fixture
def database(home: Path) -> str:
    return str(home / "server" / "catalog.db")


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What standard input holds."""

    def put(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return put


def test_a_token_is_made_listed_changed_and_revoked(artfs: Artfs) -> None:
    made = artfs("token", "create", "ann", "--grant", "vision=writer", "--grant", "models/*=reader", "--expires", "90d")
    secret = made.out.strip()
    assert secret.startswith("artfs_")
    assert len(secret) == 49
    assert "shown this once" in made.err
    (token,) = artfs("token", "list", "--json").json
    assert token["grants"] == [{"place": "local/vision", "role": "writer"}, {"place": "models/*", "role": "reader"}]
    assert token["is_admin"] is False
    assert token["expires_at"] > token["created_at"]
    assert secret not in artfs("token", "list").out
    assert artfs("token", "grant", "ann", "vision", "admin").lines == ["ann: local/vision: admin, models/*: reader"]
    assert artfs("token", "grant", "ann", "models/*", "none").lines == ["ann: local/vision: admin"]
    assert artfs("token", "grant", "ann", "models/*", "none").lines == ["ann: local/vision: admin"]
    assert artfs("token", "revoke", "ann").lines == ["ann was revoked"]
    assert artfs("token", "list").lines == ["there are no tokens; `artfs token create` makes one"]
    actions = [row["action"] for row in artfs("audit", "--json").json]
    assert actions == ["token.revoke", "token.withdraw", "token.grant", "token.create"]
    assert {row["actor"] for row in artfs("audit", "--json").json} == {"command line"}
    assert "token.grant" in artfs("audit", "--action", "token.grant").out


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["create", "a", "--grant", "vision"], 2, "write [ENTITY/]PROJECT=ROLE"),
        (["create", "a", "--grant", "vision=owner"], 2, "reader, writer, admin"),
        (["create", "a", "--grant", "=reader"], 2, "bad grant"),
        (["create", "a", "--grant", "x/y/z=reader"], 2, "entity"),
        (["create", "a", "--admin", "--expires", "soon"], 2, "bad ttl"),
        (["create", "a", "--admin", "--expires", "inherit"], 2, "bad time"),
        (["create", "a", "--admin", "--expires", "2020-01-01"], 2, "past"),
        (["create", "a", "--admin", "--expires", "2026-13-01"], 2, "bad date"),
        (["create", "", "--admin"], 2, "no name for a token"),
        (["revoke", "nobody"], 3, "no token 'nobody'"),
        (["grant", "nobody", "vision", "reader"], 3, "no token 'nobody'"),
    ],
)
def test_bad_tokens_are_refused(refused: Callable[..., str], line: list[str], code: int, words: str) -> None:
    assert words in refused("token", *line, code=code)


def test_a_token_without_rights_is_told_of(artfs: Artfs) -> None:
    assert "it can do nothing yet" in artfs("token", "create", "ann").err


def test_audit_says_when_there_is_nothing(artfs: Artfs) -> None:
    assert artfs("audit", "--since", "7d", "--by", "ann").lines == ["nothing was changed"]
    assert artfs("audit", "--since", "2026-01-01").code == 0


def test_login_keeps_the_token_and_names_the_server(
    artfs: Artfs, server: ServerProcess, database: str, give: Callable[[str], None]
) -> None:
    secret = artfs("token", "create", "root", "--admin", "--database", database).out
    give(secret)
    done = artfs("login", "--token-stdin", server.url + "/")
    assert done.lines == [f"logged in to {server.url} as root: everything"]
    tokens = config_path().parent / "tokens.json"
    assert tokens.stat().st_mode & 0o777 == 0o600
    assert str(tokens) in done.err
    assert load_settings().server == server.url
    # From now on over the network.
    made = artfs("token", "create", "ann", "--grant", "vision=reader", "--json").json
    assert [token["name"] for token in artfs("token", "list", "--json").json] == ["ann", "root"]
    granted = artfs("token", "grant", "ann", "vision", "writer", "--json").json
    assert granted["grants"] == [{"place": "local/vision", "role": "writer"}]
    assert artfs("audit", "-n", "1", "--by", "root", "--json").json[0]["action"] == "token.grant"
    give(made["secret"])
    done = artfs("login", "--token-stdin", server.url)
    assert done.lines == [f"logged in to {server.url} as ann: writer of local/vision"]
    assert "no administrator of this server" in artfs("token", "list", code=13).err
    artfs("token", "revoke", "ann", "--database", database)
    assert artfs("logout").lines == [f"logged out of {server.url}"]
    assert load_settings().server == ""
    assert tokens.read_text().strip() == "{}"
    artfs("token", "revoke", "root", "--database", database)


def test_login_tells_of_versions_that_stay(
    artfs: Artfs, two_versions: Path, open_server: ServerProcess
) -> None:
    done = artfs("login", open_server.url)
    assert done.lines == [f"logged in to {open_server.url} as anybody, as it wants no token: everything"]
    assert "2 versions of this machine's own catalog" in done.err
    assert not (config_path().parent / "tokens.json").exists()
    artfs("logout")
    assert artfs("ls", "vega/cars").code == 0


def test_login_asks_on_a_terminal(
    artfs: Artfs, server: ServerProcess, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = artfs("token", "create", "bob", "--admin", "--database", database).out.strip()
    asked: list[bool] = []

    def prompt(text: str, *, hide_input: bool, err: bool) -> str:
        asked.append(hide_input)
        return secret

    monkeypatch.setattr(login, "on_terminal", lambda: True)
    monkeypatch.setattr("click.prompt", prompt)
    done = artfs("login", server.url)
    assert asked == [True]
    assert secret not in done.out + done.err
    artfs("logout")
    artfs("token", "revoke", "bob", "--database", database)


def test_a_bad_login_changes_nothing(
    artfs: Artfs, refused: Callable[..., str], server: ServerProcess, give: Callable[[str], None]
) -> None:
    assert "--token-stdin" in refused("login", server.url, code=2)
    give("hello\n")
    assert "no token of artfs" in refused("login", "--token-stdin", server.url, code=2)
    give("artfs_" + "x" * 43)
    assert "does not know this token" in refused("login", "--token-stdin", server.url, code=13)
    give("artfs_" + "x" * 43)
    assert "bad value for server" in refused("login", "--token-stdin", "ftp://x", code=2)
    assert load_settings().server == ""
    assert not (config_path().parent / "tokens.json").exists()


def test_login_where_nobody_is(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTFS_NETWORK_TIMEOUT_S", "0.2")
    assert "does not answer" in refused("login", "http://127.0.0.1:1", code=11)


def test_logout_without_a_server(refused: Callable[..., str]) -> None:
    assert refused("logout", code=2) == "no server is in use"


def test_logout_of_another_server(artfs: Artfs) -> None:
    assert artfs("logout", "http://127.0.0.1:1").lines == ["no token of http://127.0.0.1:1 was kept"]


@pytest.mark.parametrize(
    "line", [["token", "list"], ["token", "revoke", "ann"], ["token", "grant", "ann", "p", "reader"], ["audit"], ["quota", "p"]]
)
def test_a_mistyped_database_is_not_made(refused: Callable[..., str], artfs: Artfs, tmp_path: Path, line: list[str]) -> None:
    wrong = tmp_path / "srv" / "catlog.db"
    assert refused(*line, "--database", wrong, code=3) == f"there is no database {wrong}"
    assert not wrong.parent.exists()
    artfs("token", "create", "ann", "--admin", "--database", wrong)
    assert [token["name"] for token in artfs("token", "list", "--database", wrong, "--json").json] == ["ann"]


# serve, as far as it does not begin -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--listen", "0.0.0.0:0"], "it has no tokens yet"),
        (["--listen", "[::]:0"], "it has no tokens yet"),
        (["--listen", "0.0.0.0:0", "--no-auth"], "--no-auth is for servers that listen on 127.0.0.1"),
        (["--listen", "127.0.0.1"], "write HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "write HOST:PORT"),
        (["--tls-cert", "x.pem"], "belong together"),
        (["--trust-proxy", "proxy.local", "--no-auth"], "bad address or network"),
        (["--metrics", "x", "--no-auth"], "write HOST:PORT"),
    ],
)
def test_a_server_that_must_not_run_does_not(refused: Callable[..., str], line: list[str], words: str) -> None:
    assert words in refused("serve", *line, code=2)


def test_a_bucket_that_cannot_be_used_is_told_before_a_server_begins(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, not by the tracebacks of workers."""
    (tmp_path / "theirs" / "catalog").mkdir(parents=True)
    (tmp_path / "theirs" / "catalog" / "0123").write_text("of another database")
    (tmp_path / "file").touch()
    line = ("serve", "--no-auth", "--listen", "127.0.0.1:0", "--blobs")
    assert "is another database's" in refused(*line, tmp_path / "theirs", code=2)
    assert "Not a directory" in refused(*line, tmp_path / "file" / "blobs", code=9)
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        assert "there are no credentials for S3" in refused(*line, "s3://bucket/prefix", code=2)


def test_a_missing_extra_is_named(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("artfs.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("artfs.server", "parts", raising=False)
    monkeypatch.setitem(sys.modules, "artfs.server", None)
    assert "pip install 'artfs[server]'" in refused("serve", code=2)


def test_an_empty_server_is_this_machines_own_catalog(
    artfs: Artfs, open_server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `artfs login` wrote to the config file."""
    artfs("login", open_server.url)
    assert "server" in artfs("status", "--json").json
    monkeypatch.setenv("ARTFS_SERVER", "")
    assert "server" not in artfs("status", "--json").json
    artfs("backup", "bk")


def test_links_find_what_another_name_of_the_same_push_brings(
    artfs: Artfs, two_versions: Path, open_server: ServerProcess
) -> None:
    artfs("link", "vega/cars:v0", "approved/cars")
    pushed = artfs("push", "approved", "vega/cars:v1", "vega/cars:v0", "--to", open_server.url, "--json").json
    assert [version["name"] for version in pushed["versions"]] == ["local/vega/cars:v0", "local/vega/cars:v1"]
    assert pushed["links"] == ["local/approved/cars:v0"]
    assert pushed["left_out"] == []
    again = artfs("push", "approved", "vega", "--to", open_server.url, "--json").json
    assert again["links"] == []
    assert [version["created"] for version in again["versions"]] == [False, False]


def test_names_of_a_server_are_completed_where_no_own_catalog_is(
    artfs: Artfs, two_versions: Path, open_server: ServerProcess, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    artfs("log", two_versions, "mine/cars")
    artfs("push", "vega/", "--to", open_server.url)
    with monkeypatch.context() as patch:
        patch.setenv("ARTFS_SERVER", open_server.url)
        assert completions("ls vega/cars:o") == ["vega/cars:old"]
        # `push` takes names of this machine's own catalog.
        assert completions("push ") == ["mine/", "vega/"]
        assert completions("pull m") == []
        settings.catalog_path.unlink()
        assert completions("ls vega/cars:o") == ["vega/cars:old"]
        assert completions("push ") == []
        shutil.rmtree(settings.home)
        assert completions("ls v") == []
        assert not settings.home.exists()


def completions(line: str) -> list[str]:
    *arguments, incomplete = line.split(" ")
    shell = ShellComplete(cli, {"obj": App()}, "artfs", "_ARTFS_COMPLETE")
    return [item.value for item in shell.get_completions(arguments, incomplete)]


def test_a_pin_of_a_server_that_is_not_used_is_told(
    artfs: Artfs, refused: Callable[..., str], two_versions: Path, open_server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    artfs("push", "vega", "--to", open_server.url)
    with monkeypatch.context() as patch:
        patch.setenv("ARTFS_SERVER", open_server.url)
        artfs("pin", "vega/cars:v0")
    assert f"put ARTFS_SERVER={open_server.url} before" in refused("unpin", "vega/cars:v0", code=3)
    with monkeypatch.context() as patch:
        patch.setenv("ARTFS_SERVER", open_server.url)
        artfs("unpin", "vega/cars:v0")
        assert "`artfs cache pins` lists" in refused("unpin", "vega/cars:v0", code=3)
