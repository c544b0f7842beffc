"""The text of a unit: what it says, what cannot break out of it, and how tampering is seen."""

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.model import Service
from gitops_mvd.docker.create import create
from gitops_mvd.systemd.unit import EDITED, Header, parse, quoted, render, sealed

IMAGE = "registry.example/demo/web@sha256:" + "0" * 64
WHERE = {"port": 20000, "address": "127.0.0.1", "folder": "/etc/gitops-mvd/files/mvd-shop-web"}
NAME = "mvd-shop-web-01234567"


def text_of(service, where=WHERE):
    return render("shop", service, NAME, create("shop", service, NAME, **where), where["port"])


def unit(run=None, **where):
    return text_of(Service("web", IMAGE, run or {}, kong={"port": 80}), {**WHERE, **where})


def test_the_whole_unit_of_a_routed_service():
    service = Service("web", IMAGE, {"command": ["echo", "100 %"]}, kong={"port": 80})
    text = text_of(service)
    assert text.partition("\n")[2] == (
        f'# {{"app": "shop", "digest": "{service.digest}", "grace": 10.0, "port": 20000, '
        '"restart": "always", "service": "web"}\n'
        "# Written by gitops-mvd and kept as it is: change the service in Git instead.\n"
        "[Unit]\n"
        f"Description=shop/web {service.digest[:8]} (gitops-mvd)\n"
        "Wants=docker.service\n"
        "After=docker.service\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        "Slice=mvd.slice\n"
        "SyslogIdentifier=shop/web\n"
        "UMask=0077\n"
        "ExecStartPre=-:/usr/bin/docker create --pull=never --restart=no --name=mvd-shop-web-01234567"
        " --env-file=/etc/gitops-mvd/files/mvd-shop-web/env --init --log-driver=local --log-opt=max-file=2"
        " --log-opt=max-size=10m --stop-timeout=10 --publish=127.0.0.1:20000:80/tcp --label=io.gitops-mvd.app=shop"
        f" --label=io.gitops-mvd.service=web --label=io.gitops-mvd.digest={service.digest}"
        f' --label=io.gitops-mvd.port=20000 {IMAGE} echo "100 %%"\n'
        "ExecStart=:/usr/bin/docker start --attach mvd-shop-web-01234567\n"
        "ExecStop=-:/usr/bin/docker stop mvd-shop-web-01234567\n"
        "ExecStop=-:/usr/bin/docker rm --force --volumes mvd-shop-web-01234567\n"
        "ExecStopPost=-:/usr/bin/docker rm --volumes mvd-shop-web-01234567\n"
        "TimeoutStartSec=300\n"
        "TimeoutStopSec=35\n"
        "SuccessExitStatus=143\n"
        "Restart=always\n"
        "RestartSec=2\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def test_a_unit_says_whose_it_is():
    text = unit({"restart": "on-failure:3", "stop_grace_period": 1.5})
    digest = Service("web", IMAGE, {"restart": "on-failure:3", "stop_grace_period": 1.5}, kong={"port": 80}).digest
    assert parse(text) == Header("shop", "web", digest, port=20000, restart="on-failure:3", grace=1.5)


@pytest.mark.parametrize(("before", "after"), [("--init", "--init=false"), ("20000", "20001"), ("[Install]", "")])
def test_an_edit_anywhere_is_seen_in_the_text_alone(before, after):
    header = parse(unit().replace(before, after))
    assert header is not None
    assert (header.app, header.service, header.digest) == ("shop", "web", EDITED)


def test_a_line_that_was_added_or_cut_off_is_an_edit():
    for text in (unit() + "#\n", unit()[:-30]):
        header = parse(text)
        assert header is not None
        assert header.digest == EDITED


@pytest.mark.parametrize("text", ["", "[Unit]\nDescription=of somebody else\n", "# gitops-mvd sha256:00\n# {\n"])
def test_what_does_not_say_whose_it_is_is_none_of_ours(text):
    assert parse(text) is None


def test_a_unit_of_another_template_keeps_its_digest():
    """An upgrade of the daemon that writes other lines must not disturb what runs."""
    text = unit()
    older = text.partition("\n")[2].replace("RestartSec=2", "RestartSec=5")
    assert parse(sealed(older)) == parse(text)


def test_what_may_end_is_a_job_and_what_is_left_of_it_is_kept():
    job = unit({"restart": "no"})
    assert "Restart=no\nRemainAfterExit=yes\n" in job
    assert "ExecStopPost" not in job
    assert "--force" not in job
    assert "ExecStartPre=-:/usr/bin/docker rm --volumes" in job
    assert "WantedBy" not in job, "as with Docker, it does not come back at boot"


def test_the_whole_unit_of_a_scheduled_service():
    service = Service("nightly", IMAGE, {"command": ["clean-up"]}, schedule="daily")
    text = text_of(service, {**WHERE, "port": 0})
    assert text.partition("\n")[2] == (
        f'# {{"app": "shop", "digest": "{service.digest}", "grace": 10.0, "port": 0, '
        '"restart": "no", "scheduled": true, "service": "nightly"}\n'
        "# Written by gitops-mvd and kept as it is: change the service in Git instead.\n"
        "[Unit]\n"
        f"Description=shop/nightly {service.digest[:8]} (gitops-mvd)\n"
        "Wants=docker.service\n"
        "After=docker.service\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        "Slice=mvd.slice\n"
        "SyslogIdentifier=shop/nightly\n"
        "UMask=0077\n"
        "ExecStartPre=-:/usr/bin/docker rm --volumes mvd-shop-web-01234567\n"
        "ExecStartPre=-:/usr/bin/docker create --pull=never --restart=no --name=mvd-shop-web-01234567"
        " --env-file=/etc/gitops-mvd/files/mvd-shop-web/env --init --log-driver=local --log-opt=max-file=2"
        " --log-opt=max-size=10m --stop-timeout=10 --label=io.gitops-mvd.app=shop"
        f" --label=io.gitops-mvd.service=nightly --label=io.gitops-mvd.digest={service.digest}"
        f" --label=io.gitops-mvd.port=0 {IMAGE} clean-up\n"
        "ExecStart=:/usr/bin/docker start --attach mvd-shop-web-01234567\n"
        "ExecStop=-:/usr/bin/docker stop mvd-shop-web-01234567\n"
        "TimeoutStartSec=300\n"
        "TimeoutStopSec=35\n"
        "SuccessExitStatus=143\n"
        "Restart=no\n"
        "RestartSec=2\n"
    )
    header = parse(text)
    assert header is not None
    assert header.scheduled
    assert not header.at_boot


def test_when_a_service_runs_is_not_in_its_unit():
    daily, hourly = (text_of(Service("web", IMAGE, schedule=it)) for it in ("daily", "hourly"))
    assert daily == hourly
    assert "RemainAfterExit" not in daily
    assert "RemainAfterExit" in unit({"restart": "no"})


def test_a_unit_that_an_older_version_wrote_is_read_as_it_was():
    """It knew of no schedules; nor would it read a unit of ours that says something of one."""
    header = parse(
        sealed('# {"app": "a", "digest": "d", "grace": 10.0, "port": 0, "restart": "always", "service": "s"}\n[Unit]\n')
    )
    assert header == Header("a", "s", "d", 0, "always", 10.0, scheduled=False)
    assert '"scheduled"' not in unit()


def test_the_tries_of_on_failure_are_counted():
    assert "StartLimitIntervalSec=infinity\nStartLimitBurst=4\n" in unit({"restart": "on-failure:3"})
    assert "Restart=on-failure\nRemainAfterExit=yes\n" in unit({"restart": "on-failure:3"})
    assert "StartLimitIntervalSec=0\n" in unit({"restart": "on-failure"})
    assert "WantedBy" in unit({"restart": "on-failure"})


def test_unless_stopped_is_always():
    assert "Restart=always\n" in unit({"restart": "unless-stopped"})


def test_further_networks_are_connected_to_before_the_start():
    text = unit({"networks": {"a": {"aliases": ["web"]}, "b": {"aliases": ["web"]}}})
    assert re.search(
        r"^ExecStartPre=-:\S+ create .*\nExecStartPre=-:\S+ network connect --alias=web b mvd\S+$", text, re.M
    )


def test_the_stop_is_given_more_time_than_the_container():
    assert "TimeoutStopSec=326\n" in unit({"stop_grace_period": 300.5})


@pytest.mark.parametrize("value", ["a\0b", "\udcff"])
def test_what_no_command_line_can_hold_is_refused(value):
    with pytest.raises(ValueError, match=r"\\x00|surrogates"):
        unit({"command": [value]})


def test_what_systemd_calls_unclean_is_written_in_bytes():
    """It drops the whole line otherwise, as `String is not UTF-8 clean`."""
    assert quoted(["a\uffff\x1b é"]) == '"a\\xef\\xbf\\xbf\\x1b é"'
    assert quoted(["\U0010fffe\ufdd0"]) == '"\\xf4\\x8f\\xbf\\xbe\\xef\\xb7\\x90"'


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=5))
def test_no_value_breaks_out_of_its_line(words):
    text = unit({"command": words})
    [line] = [line for line in text.split("\n") if " create " in line]
    assert line.endswith(quoted(words))
    assert text.count("\n") == unit().count("\n")


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="%"))))
def test_printable_words_read_as_in_a_shell_but_for_percent(words):
    """A second opinion on the quoting; the whole of it is tried on a real systemd in tests/contract."""
    assert shlex.split(quoted(words)) == words
