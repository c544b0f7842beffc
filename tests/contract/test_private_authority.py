"""A forge whose certificate a private authority has signed, and a web proxy on the way to it."""

from __future__ import annotations

import datetime
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract import test_cli
from tests.contract.test_cli import Newcomer
from tests.contract.test_kong_transport import Authority
from tests.lab.forge import Forge

newcomer = test_cli.newcomer
TOKEN = "t0ken-of-the-lab"
IN_USE = {"fleet.yaml": "hosts: {srv1: {}}\n"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "acme")


@contextmanager
def forge_of(newcomer: Newcomer, tmp_path: Path, tls: tuple[str, str], **login: str) -> Iterator[Forge]:
    """A forge with that certificate, which the settings name, with a repository in use."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls)
    with Forge(tmp_path / "forge", token=TOKEN, tls=context) as forge:
        repository = forge.create("acme/config")
        repository.commit(IN_USE, "Begin")
        newcomer.terminal.set(
            repository=repository.clone_url,
            credentials={"token_file": f"{tmp_path}/token", **login},
            forge={"kind": "gitea"},
        )
        yield forge


def test_git_and_the_forge_trust_the_authority_that_the_settings_name(
    newcomer: Newcomer, tmp_path: Path, authority: Authority
) -> None:
    with forge_of(newcomer, tmp_path, authority.sign("forge", "127.0.0.1"), ca_file=authority.file):
        said = newcomer.terminal.mvd("doctor").out
        assert "ok    fleet.yaml     srv1: no labels\n" in said
        assert "ok    token          may post statuses to acme/config" in said
        newcomer.terminal.set(forge={"kind": "gitea", "ca_file": Authority(tmp_path, "other").file})
        said = newcomer.terminal.mvd("doctor").out
        assert "ok    fleet.yaml     srv1: no labels\n" in said, "Git has its own"
        hint = "set `forge.ca_file` to the authority that signed it"
        assert f"does not answer: its TLS certificate is not accepted\n{'':<20} {hint}\n" in said


def test_without_it_the_repository_is_not_trusted_and_the_setting_is_named(
    newcomer: Newcomer, tmp_path: Path, authority: Authority
) -> None:
    with forge_of(newcomer, tmp_path, authority.sign("forge", "127.0.0.1")):
        said = newcomer.terminal.mvd("doctor")
    assert said.code == 1
    assert "could not be trusted: its TLS certificate was not accepted\n" in said.out
    assert (
        "if the clock of this server is right (timedatectl), set `ca_file` to the authority that signed it" in said.out
    )


def test_a_certificate_that_has_expired_may_be_the_fault_of_the_clock(
    newcomer: Newcomer, tmp_path: Path, authority: Authority
) -> None:
    ended = authority.sign("forge", "127.0.0.1", ends=datetime.timedelta(seconds=-60))
    with forge_of(newcomer, tmp_path, ended, ca_file=authority.file):
        said = newcomer.terminal.mvd("doctor").out
    assert "its TLS certificate has expired, or the clock of this server is wrong" in said
    assert "ok    clock          as that of 127.0.0.1\n" in said, "which it is not"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_that_has_no_certificate_is_named(newcomer: Newcomer, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    newcomer.terminal.set(credentials={"ca_file": str(file)})
    said = newcomer.terminal.mvd("doctor")
    assert said.code == 1
    why = "No such file or directory" if content is None else "has no certificate in it"
    assert f"{file} (`credentials.ca_file`)" in said.out
    assert why in said.out


class _Tunnels(socketserver.ThreadingTCPServer):
    """A web proxy, which opens tunnels and keeps to whom."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[str] = []


class _Tunnel(socketserver.StreamRequestHandler):
    server: _Tunnels

    def handle(self) -> None:
        where = self.rfile.readline().decode().split()[1]
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(where)
        host, _, port = where.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as there:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            sides = {self.connection: there, there: self.connection}
            while ready := select.select(sides, [], [], 10)[0]:
                for side in ready:
                    if not (some := side.recv(65536)):
                        return
                    sides[side].sendall(some)


def test_git_and_the_forge_are_asked_through_the_web_proxy(
    newcomer: Newcomer, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _Tunnels() as proxy,
        forge_of(newcomer, tmp_path, authority.sign("forge", "127.0.0.1"), ca_file=authority.file) as forge,
    ):
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.delenv("no_proxy", raising=False)
        at = f"http://127.0.0.1:{proxy.server_address[1]}"
        monkeypatch.setenv("https_proxy", at)
        said = newcomer.terminal.mvd("doctor").out
        proxy.shutdown()
        for found in (
            "ok    fleet.yaml     srv1: no labels\n",
            "ok    token          may post statuses to acme/config",
        ):
            assert found in said
        assert f"ok    web proxy      Git and the forge are asked through {at}\n" in said
        assert len(proxy.asked) >= 2
        assert set(proxy.asked) == {forge.url.removeprefix("https://")}
