"""The laws of who is asked for secrets, over every provider that there is; and what only one of them does."""

from __future__ import annotations

import pkgutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitops_mvd.config.settings.secrets import AppRole, CommandProvider, ProviderSettings, VaultProvider
from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.secrets import providers
from gitops_mvd.secrets.providers import Provider, connect, vault
from gitops_mvd.secrets.providers.files import Files
from gitops_mvd.secrets.store import Secrets
from tests.contract import vault_standin
from tests.contract.vault_standin import ROLE, SECRET_ID, TOKEN, StandIn

SECRET = "hunter22 and more\n"
VALUES = [SECRET, "two\nlines\r\n", "ünïcode €", "x" * (1 << 17), "  spaces  ", '{"a": "json"}']


@dataclass(frozen=True)
class Place:
    """A provider and, behind its back, how something is put there, and how it breaks."""

    provider: Provider
    path: str
    put: Callable[[str], object]
    take_away: Callable[[], object]
    break_it: Callable[[], object] | None
    advice: str


def files(tmp_path: Path) -> Iterator[Place]:
    path = tmp_path / "db"

    def put(text: str) -> None:
        path.touch(mode=0o600)
        path.write_bytes(text.encode())

    yield Place(Files(tmp_path), "db", put, path.unlink, None, f"install -m 600 /dev/stdin {path}")


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(stat.S_IRWXU)
    return str(path)


def command(tmp_path: Path) -> Iterator[Place]:
    kept = tmp_path / "kept"
    kept.mkdir()
    program = script(tmp_path / "keeper", f'cat "{kept}/$2" 2>/dev/null || true')
    made = connect(ProviderSettings(command=CommandProvider((program, "get", "{path}"))))
    path = kept / "db"
    yield Place(
        *(made, "db", lambda text: path.write_bytes(text.encode()), path.unlink),
        lambda: script(tmp_path / "keeper", f"cat {path} >&2; exit 1"),
        "put it where that program finds it",
    )


def vault_place(tmp_path: Path) -> Iterator[Place]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    with vault_standin.vault() as server:
        made = connect(ProviderSettings(vault=VaultProvider(server.url, token_file=str(token))))
        yield Place(
            *(made, "kv/data/shop#db", lambda text: server.secrets.update({"kv/data/shop": {"db": text}})),
            lambda: server.secrets.clear(),
            lambda: setattr(server, "sick", "sealed"),
            "vault kv put kv/shop db=-",
        )


PLACES = {"files": files, "command": command, "vault": vault_place}


@pytest.fixture(params=[info.name for info in pkgutil.iter_modules(providers.__path__)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from PLACES[request.param](tmp_path)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_what_was_put_there_is_read(place: Place, value: str) -> None:
    place.put(value)
    assert place.provider.read(place.path) == value.encode()


def test_what_is_missing_is_told_with_what_provides_it(place: Place) -> None:
    with pytest.raises(StepFailed) as refused:
        place.provider.read(place.path)
    assert place.advice in str(refused.value)
    place.put(SECRET)
    assert place.provider.read(place.path).decode() == SECRET
    place.take_away()
    with pytest.raises(StepFailed):
        place.provider.read(place.path)


def test_what_does_not_answer_is_unavailable_and_tells_nothing(place: Place) -> None:
    if not place.break_it:
        pytest.skip("a folder of this host answers")
    place.put(SECRET)
    place.break_it()
    with pytest.raises(Unavailable) as told:
        place.provider.read(place.path)
    assert "hunter22" not in str(told.value)


def test_a_stamp_is_the_same_while_nothing_can_have_changed(place: Place) -> None:
    place.put(SECRET)
    assert place.provider.stamp(place.path) == place.provider.stamp(place.path)


@pytest.mark.parametrize("path", ["../shadow", "kv/data/../../sys/seal#x", "a/b", "", "#", "x" * 400, "kv/data/x"])
def test_a_path_that_leads_elsewhere_is_refused(place: Place, path: str) -> None:
    with pytest.raises(MvdError):
        place.provider.read(path)


# ---- a program -------------------------------------------------------------------------------------------------------


def asked(tmp_path: Path, text: str, within: float = 10.0, path: str = "db") -> bytes:
    words = (script(tmp_path / "program", text), "{path}", "and-{path}")
    return connect(ProviderSettings(command=CommandProvider(words, within=within))).read(path)


def test_a_program_gets_the_path_in_its_words_and_no_shell(tmp_path: Path) -> None:
    assert asked(tmp_path, 'printf "%s|" "$@"', path="a/b$(id)#c") == b"a/b$(id)#c|and-a/b$(id)#c|"


def test_a_program_gets_nothing_of_the_environment_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_DAEMON", "s3cret")
    assert b"OF_THE_DAEMON" not in asked(tmp_path, "env")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sleep 1000", "did not end within 0.5 s"),
        ("echo part; exec >&-; sleep 1000", "did not end within 0.5 s"),
        ("while :; do echo x; sleep 0.05; done", "did not end within 0.5 s"),
        ("cat /dev/zero", "printed more than 1 MiB"),
        ("echo s3cret; echo s3cret >&2; exit 3", "ended with 3"),
    ],
)
def test_a_program_that_misbehaves_is_ended_and_told(tmp_path: Path, text: str, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=why) as told:
        asked(tmp_path, text, within=0.5)
    assert "s3cret" not in str(told.value)
    assert time.monotonic() - began < 10


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot run /nowhere/op: No such file"):
        connect(ProviderSettings(command=CommandProvider(("/nowhere/op", "{path}")))).read("db")


# ---- Vault -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[StandIn]:
    with vault_standin.vault() as found:
        found.secrets["kv/data/shop"] = {"db": SECRET, "port": 5432}
        yield found


def by_token(server: StandIn, tmp_path: Path) -> Provider:
    (tmp_path / "token").write_text(TOKEN)
    return connect(ProviderSettings(vault=VaultProvider(server.url, token_file=str(tmp_path / "token"))))


def by_role(server: StandIn, tmp_path: Path, secret_id: str = SECRET_ID) -> Provider:
    (tmp_path / "role").write_text(f"{ROLE}\n")
    (tmp_path / "id").write_text(secret_id)
    role = AppRole(str(tmp_path / "role"), str(tmp_path / "id"))
    return connect(ProviderSettings(vault=VaultProvider(server.url, approle=role)))


def test_an_app_role_logs_in_once_and_anew_when_its_token_is_refused(server: StandIn, tmp_path: Path) -> None:
    provider = by_role(server, tmp_path)
    for _ in range(3):
        assert provider.read("kv/data/shop#db").decode() == SECRET
    assert server.logins == 1
    server.tokens.clear()
    assert provider.read("kv/data/shop#port") == b"5432"
    assert server.logins == 2


def test_a_login_that_is_refused_is_told_without_it(server: StandIn, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="refuses the login of the AppRole") as told:
        by_role(server, tmp_path, "a-wrong-secret-id").read("kv/data/shop#db")
    assert "wrong-secret" not in str(told.value)
    server.tokens.clear()
    with pytest.raises(Unavailable, match=r"answered 403.*policies") as refused:
        by_token(server, tmp_path).read("kv/data/shop#db")
    assert TOKEN not in str(refused.value)


def test_a_token_that_an_agent_renews_is_read_anew(server: StandIn, tmp_path: Path) -> None:
    provider = by_token(server, tmp_path)
    assert provider.read("kv/data/shop#db").decode() == SECRET
    server.tokens = {"hvs.renewed"}
    (tmp_path / "token").write_text("hvs.renewed\n")
    assert provider.read("kv/data/shop#db").decode() == SECRET
    (tmp_path / "token").write_text("two\nlines")
    with pytest.raises(Unavailable, match="is not one line of text"):
        provider.read("kv/data/shop#db")


@pytest.mark.parametrize("sick", ["hang", "drip", "garbage", "huge", "sealed", "redirect"])
def test_a_vault_that_is_sick_is_unavailable_in_time(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sick: str
) -> None:
    monkeypatch.setattr(vault, "ANSWER_WITHIN_SECONDS", 0.6)
    provider, began = by_token(server, tmp_path), time.monotonic()
    server.sick = sick
    with pytest.raises(Unavailable) as told:
        provider.read("kv/data/shop#db")
    assert not {TOKEN, "hunter22"} & set(str(told.value).split())
    assert time.monotonic() - began < 5
    server.sick = ""
    assert provider.read("kv/data/shop#db").decode() == SECRET


def test_what_is_not_of_version_two_has_no_secret(server: StandIn, tmp_path: Path) -> None:
    server.sick = "odd"
    with pytest.raises(StepFailed, match="has no secret kv/data/shop"):
        by_token(server, tmp_path).read("kv/data/shop#db")


def test_a_vault_is_asked_again_after_its_interval(server: StandIn, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    options = VaultProvider(server.url, token_file=str(tmp_path / "token"), interval=3600)
    store = Secrets(tmp_path / "secrets", {"vault": connect(ProviderSettings(vault=options))})
    for _ in range(3):
        store.refresh()
        assert store.read("vault:kv/data/shop#db") == SECRET.strip()
    assert len(server.asked) == 1
