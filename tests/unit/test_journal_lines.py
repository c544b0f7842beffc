"""Lines out of the journal, whatever containers print."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gitops_mvd.api.views import LogLine
from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.redact import learn
from gitops_mvd.systemd import journal_lines as module
from gitops_mvd.systemd.journal_lines import journal_lines

Journal = Callable[[Sequence[bytes]], None]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Puts a journalctl in front of the real one that prints these entries, and knows shop/web."""

    def put(entries: Sequence[bytes]) -> None:
        (tmp_path / "entries").write_bytes(b"".join(entry + b"\n" for entry in entries))
        script = tmp_path / "journalctl"
        script.write_text(
            f'#!/bin/sh\ncase "$*" in *--field=*) printf "%s\\\\n" shop/web shop/worker sshd sshd/a/b; exit;; esac\n'
            f'echo "$@" > {tmp_path}/asked\ncat {tmp_path}/entries\ncase "$*" in *--follow*) exec sleep 60;; esac\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return put


def entry(message: object, **more: object) -> bytes:
    fields = {
        "__CURSOR": "s=1;i=2",
        "__REALTIME_TIMESTAMP": "1700000000500000",
        "SYSLOG_IDENTIFIER": "shop/web",
        "CONTAINER_NAME": "mvd-shop-web-1a2b3c4d",
        "MESSAGE": message,
    }
    return json.dumps({**fields, **more}).encode()


def read(name: str = "shop") -> list[LogLine]:
    return [line for line in journal_lines(name, 50, follow=False) if line]


def test_a_line_has_its_time_app_service_and_instance(journal: Journal) -> None:
    journal([entry("GET / 200")])
    assert read() == [LogLine(1700000000.5, "shop", "web", "mvd-shop-web-1a2b3c4d", "GET / 200", "s=1;i=2")]


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        ("\x1b[31mred\x1b[0m and \x1b]0;title\x07more", "red and more"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ([255, 254, 65], b"\\ufffd\\ufffdA".decode("unicode_escape")),
        ("tab\there\r\n", "tab here"),
        ("half\x00way", "half\\x00way"),
        (None, ""),
    ],
)
def test_what_is_no_plain_text_is_made_one(journal: Journal, printed: object, text: str) -> None:
    journal([entry(printed)])
    assert [line.text for line in read()] == [text]


def test_a_secret_is_struck_out(journal: Journal) -> None:
    learn("a test of the journal", "hunter2-hunter2-journal")
    journal([entry("password is hunter2-hunter2-journal")])
    assert [line.text for line in read()] == ["password is ***"]


def test_a_long_line_is_cut_and_one_that_is_absurd_is_left_out(journal: Journal) -> None:
    journal([entry("x" * 100_000), entry("y" * (10 << 20)), entry("last")])
    lengths = [len(line.text) for line in read()]
    assert lengths == [module.LONGEST_LINE, len("last")]


def test_garbage_between_the_entries_is_passed_over(journal: Journal) -> None:
    journal([b"{", b"", b"[]", b'{"MESSAGE": "no time"}', entry("well")])
    assert [line.text for line in read()] == ["well"]


def test_of_an_app_all_its_services_are_asked_for_and_of_a_service_only_that(journal: Journal, tmp_path: Path) -> None:
    journal([])
    read("shop")
    assert "--identifier=shop/web --identifier=shop/worker" in (tmp_path / "asked").read_text()
    read("shop/web")
    assert "worker" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("name", ["sshd", "sshd/a", "sshd/a/b", "shop/web/more"])
def test_there_is_no_output_of_another_program(journal: Journal, name: str) -> None:
    journal([])
    with pytest.raises(MvdError, match=f"no output of {name}"):
        read(name)


def test_an_app_that_is_named_like_another_program_is_not_followed_by_that_name(
    journal: Journal, tmp_path: Path
) -> None:
    journal([])
    ends = iter([False, True])
    assert list(journal_lines("sshd", 5, follow=True, is_over=lambda: next(ends))) == [None]
    assert (tmp_path / "asked").read_text().rstrip("\n").endswith(" --identifier=sshd/")
    with pytest.raises(MvdError, match="no output of sshd/a/b"):
        list(journal_lines("sshd/a/b", 5, follow=True))


@pytest.mark.parametrize(
    "printed_by",
    [
        {"CONTAINER_NAME": "somebody-elses"},
        {"CONTAINER_NAME": "mvd-store-web-1a2b3c4d"},
        {"CONTAINER_NAME": None, "_SYSTEMD_UNIT": "ssh.service"},
        {"CONTAINER_NAME": None, "_SYSTEMD_UNIT": None},
        {"SYSLOG_IDENTIFIER": "shop/worker"},
        {"SYSLOG_IDENTIFIER": "shop/web/more"},
        {"SYSLOG_IDENTIFIER": "shop"},
    ],
)
def test_a_line_of_whatever_is_no_container_of_that_service_is_left_out(
    journal: Journal, printed_by: dict[str, str | None]
) -> None:
    journal([entry("a password", **printed_by), entry("well")])
    assert [line.text for line in read()] == ["well"]


def test_a_line_that_the_unit_of_an_instance_printed_is_that_of_the_instance(journal: Journal) -> None:
    journal([entry("started", CONTAINER_NAME=None, _SYSTEMD_UNIT="mvd-shop-web-1a2b3c4d.service")])
    assert [line.instance for line in read()] == ["mvd-shop-web-1a2b3c4d"]


def test_an_app_that_printed_nothing_is_an_error_unless_it_is_followed(journal: Journal) -> None:
    journal([])
    with pytest.raises(MvdError, match="no output of nobody"):
        read("nobody")
    ends = iter([False, True])
    assert list(journal_lines("nobody", 5, follow=True, is_over=lambda: next(ends))) == [None]


def test_following_ends_with_whoever_follows(journal: Journal) -> None:
    journal([entry("one")])
    lines = journal_lines("shop", 5, follow=True)
    first = next(lines)
    assert first
    assert first.text == "one"
    lines.close()  # type: ignore[attr-defined]
    assert next(lines, None) is None


def test_it_begins_behind_a_cursor(journal: Journal, tmp_path: Path) -> None:
    journal([])
    assert list(journal_lines("shop", 5, follow=False, after="s=1;i=2")) == []
    assert "--after-cursor=s=1;i=2" in (tmp_path / "asked").read_text()
