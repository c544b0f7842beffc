"""The text of a unit: what it says, what cannot break out of it, and how tampering is seen."""

import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.model import Check, Service
from gitops_mvd.docker.command_line import equivalent
from gitops_mvd.docker.create import Place
from gitops_mvd.systemd.unit import CLIENT, EDITED, SYSTEMD, Header, follower_of, parse, quoted, render, sealed

IMAGE = "registry.example/demo/web@sha256:" + "0" * 64
WHERE = Place("/etc/gitops-mvd/files/mvd-shop-web", "/srv/mvd", port=20000, address="127.0.0.1", follows=SYSTEMD)
NAME = "mvd-shop-web-01234567"
ID = "0123456789abcdef" * 4
CLIENT_OF = {"docker": "/usr/bin/docker", "engine": "unix:///var/run/docker.sock"}
FIND = (
    '    id=$(docker ps --all --quiet --no-trunc --filter "name=^/$0$" --filter "label=io.gitops-mvd.digest=$1")'
    " || exit; \\\n"
    '    [ "$id" ] || { echo "container $0 is missing: the next pass of gitops-mvd makes it" >&2; exit 78; }; \\\n'
)


def text_of(service, where=WHERE):
    follows = follower_of(service)
    like = equivalent("shop", service, NAME, where)
    return render("shop", service, NAME, where.port, follows=follows, **CLIENT_OF, container=ID, like=like)


def unit(run=None, **where):
    return text_of(Service("web", IMAGE, run or {}, kong={"port": 80}), replace(WHERE, **where))


def test_the_whole_unit_of_a_routed_service():
    service = Service("web", IMAGE, {"command": ["echo", "100 %"], "restart": "always"}, kong={"port": 80})
    text = text_of(service)
    assert text.partition("\n")[2] == (
        f'# {{"app": "shop", "digest": "{service.digest}", "follows": "systemd", "grace": 10.0, "port": 20000, '
        '"restart": "always", "service": "web"}\n'
        "# Written by gitops-mvd and kept as it is: change the service in Git instead.\n"
        "# docker run --detach --name=mvd-shop-web-01234567"
        " --env-file=/etc/gitops-mvd/files/mvd-shop-web/env --log-driver=journald"
        " --log-opt=labels=io.gitops-mvd.app,io.gitops-mvd.service,io.gitops-mvd.revision --log-opt=tag=shop/web"
        " --stop-timeout=10 --publish=127.0.0.1:20000:80/tcp"
        " --network=mvd-shop-default-44136fa3 --network-alias=web --label=io.gitops-mvd.app=shop"
        f" --label=io.gitops-mvd.service=web --label=io.gitops-mvd.digest={service.digest}"
        f" --label=io.gitops-mvd.port=20000 --label=io.gitops-mvd.follows=systemd {IMAGE} echo '100 %'\n"
        "[Unit]\n"
        f"Description=shop/web {service.digest[:8]} (gitops-mvd)\n"
        "Wants=docker.service\n"
        "After=docker.service\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=notify\n"
        "NotifyAccess=main\n"
        "SyslogIdentifier=mvd-shop-web-01234567\n"
        "ExecStart=:/bin/sh -c '\\\n"
        '    left() { [ "$(docker inspect --format "{{.State.Running}}" "$id")" = false ] || return; \\\n'
        '        for at in /proc/[0-9]*; do read -r is <"$at/comm" && case $is in containerd-shim*) \\\n'
        '        grep -qs "$id" "$at/cmdline" && ! grep -qsz "^delete$" "$at/cmdline" \\\n'
        '        && kill -KILL $(cat "$at"/task/*/children) "${at#/proc/}";; esac; \\\n'
        "        done; } 2>/dev/null; \\\n"
        '    parent() { while read -r key of; do [ "$key" != PPid: ] || return 0; done; return 1; } \\\n'
        '        2>/dev/null <"/proc/$1/status"; \\\n'
        '    follow() { parent "$1" && shim=$of && parent "$shim" && [ "$of" = 1 ]'
        ' && grep -qs "$id" "/proc/$shim/cmdline" \\\n'
        '        && exec systemd-notify --ready "MAINPID=$shim"; }; \\\n'
        "    running() { pid=; read -r pid 2>/dev/null"
        ' <"/run/containerd/io.containerd.runtime.v2.task/moby/$id/init.pid"; [ "$pid" ] && follow "$pid"; }; \\\n'
        '    id=$2; [ "$id" ] && rm "/run/gitops-mvd/started/$id" 2>/dev/null && running; \\\n'
        '    [ "$id" ] && docker start "$id" >/dev/null || { \\\n'
        f"{FIND}"
        '    [ "$id" != "$2" ] && docker start "$id" >/dev/null || { left; exit 1; }; }; \\\n'
        '    running; follow "$(docker inspect --format "{{.State.Pid}}" "$id")"; \\\n'
        '    systemd-notify --ready; exec docker wait "$id" >/dev/null\''
        f" mvd-shop-web-01234567 {service.digest} {ID}\n"
        "ExecStopPost=:/bin/sh -c '\\\n"
        '    [ -z "$(systemctl show --property=Job --value "$0.service")" ] || exit 0; \\\n'
        '    code=$(timeout 10 docker wait "$0" 2>/dev/null || echo 1); exit $code\''
        " mvd-shop-web-01234567\n"
        "KillMode=process\n"
        "SendSIGKILL=no\n"
        "RestartPreventExitStatus=78\n"
        "Environment=DOCKER_HOST=unix:///var/run/docker.sock\n"
        "Slice=mvd.slice\n"
        "UMask=0077\n"
        'ExecStop=-:/bin/sh -c \'[ "$MAINPID" ] && docker stop "$0" >/dev/null &&'
        ' kill -KILL $(cat "/proc/$MAINPID"/task/*/children 2>/dev/null) 2>/dev/null\' mvd-shop-web-01234567\n'
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
    assert parse(text) == Header("shop", "web", digest, 20000, "on-failure:3", 1.5, follows=SYSTEMD)


@pytest.mark.parametrize(("before", "after"), [("docker wait", "docker rm"), ("20000", "20001"), ("[Install]", "")])
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


def test_no_unit_makes_or_removes_a_container():
    for restart in ("always", "no", "on-failure:3"):
        text = unit({"restart": restart})
        assert not re.search(r"^[A-Z].*docker (create|run|rm)", text, re.M)


def test_a_job_has_a_client_that_ends_with_its_exit_code():
    job = unit({"restart": "no"})
    assert "Type=exec\nSyslogIdentifier=shop/web\n" in job
    assert 'exec docker start --attach "$id"' in job
    assert "RemainAfterExit=yes\n" in job
    assert "Restart=no\n" in job
    assert "WantedBy" not in job, "as with Docker, it does not come back at boot"


def test_a_container_with_another_logging_driver_has_a_client_too():
    def logged_by(driver):
        return Service("web", IMAGE, {"logging": {"driver": driver, "options": {}}})

    assert [follower_of(logged_by(driver)) for driver in ("", "journald", "json-file")] == [SYSTEMD, SYSTEMD, CLIENT]
    assert follower_of(Service("web", IMAGE)) == SYSTEMD
    assert follower_of(Service("web", IMAGE, {"restart": "no"})) == CLIENT


def test_lines_that_a_client_prints_have_the_fields_that_the_engine_would_give_them():
    text = render("shop", Service("web", IMAGE), NAME, 0, follows=CLIENT, **CLIENT_OF, revision="1a2b3c4")
    assert (
        "LogExtraFields=IO_GITOPS_MVD_APP=shop IO_GITOPS_MVD_SERVICE=web IO_GITOPS_MVD_REVISION=1a2b3c4\n"
        f"LogExtraFields=CONTAINER_NAME={NAME}\n"
    ) in text
    assert "REVISION" not in render("shop", Service("web", IMAGE), NAME, 0, follows=CLIENT, **CLIENT_OF)


def test_a_client_prints_nothing_that_the_engine_writes_into_the_journal_itself():
    job = Service("web", IMAGE, {"restart": "no", "logging": {"driver": "journald", "options": {}}})
    text = render("shop", job, NAME, 0, follows=follower_of(job), **CLIENT_OF)
    assert "--attach" not in text
    assert """docker start "$id" >/dev/null || exit; code=$(docker wait "$id")""" in text


def test_the_unit_of_a_scheduled_service_waits_for_its_timer():
    service = Service("nightly", IMAGE, {"command": ["clean-up"]}, schedule="daily")
    text = text_of(service, replace(WHERE, port=0))
    assert "Restart=no\n" in text
    assert "RemainAfterExit" not in text, "a timer starts only what is inactive"
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


def test_the_tries_of_on_failure_are_counted_anew_after_a_stop_by_hand_and_ten_seconds_of_running():
    tried = unit({"restart": "on-failure:3"})
    assert "StartLimitIntervalSec=infinity\nStartLimitBurst=4\n" in tried
    assert "Restart=on-failure\n" in tried
    assert '[ -z "$MAINPID" ] || systemctl reset-failed "$0.service"; ' in tried
    assert '-lt 10 ] || systemctl reset-failed "$0.service"' in tried
    assert "StartLimitIntervalSec=0\n" in unit({"restart": "on-failure"})
    assert "WantedBy" in unit({"restart": "on-failure"})


def test_what_says_nothing_of_restarts_is_started_again_if_it_failed_and_always_if_it_serves():
    silent = text_of(Service("web", IMAGE, check=Check("not_failed")), replace(WHERE, port=0))
    assert "Restart=on-failure\n" in silent
    assert 'is-active docker.service)" != deactivating ] || code=1' in silent, "its engine may have stopped it"
    assert "WantedBy" in silent
    assert "Restart=always\n" in unit()


def test_what_shares_the_network_of_another_service_restarts_with_it():
    text = unit({"network_mode": "container:mvd-shop-vpn-01234567"})
    assert "After=docker.service mvd-shop-vpn-01234567.service\nPartOf=mvd-shop-vpn-01234567.service\n" in text


def test_unless_stopped_is_always():
    assert "Restart=always\n" in unit({"restart": "unless-stopped"})


def test_further_networks_are_in_the_comment():
    text = unit({"networks": {"a": {"aliases": ["web"]}, "b": {"aliases": ["web"]}}})
    assert re.search(r"^# docker run .*\n# docker network connect --alias=web b mvd\S+$", text, re.M)


def test_the_stop_is_given_more_time_than_the_container():
    assert "TimeoutStopSec=326\n" in unit({"stop_grace_period": 300.5})


def test_what_systemd_calls_unclean_is_written_in_bytes():
    """It drops the whole line otherwise, as `String is not UTF-8 clean`."""
    assert quoted(["a\uffff\x1b é"]) == '"a\\xef\\xbf\\xbf\\x1b é"'
    assert quoted(["\U0010fffe\ufdd0"]) == '"\\xf4\\x8f\\xbf\\xbe\\xef\\xb7\\x90"'


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=5))
def test_no_value_breaks_out_of_its_line(words):
    text = unit({"command": words})
    [line] = [line for line in text.split("\n") if line.startswith("# docker run ")]
    assert IMAGE in line
    assert text.count("\n") == unit().count("\n")


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="%"))))
def test_printable_words_read_as_in_a_shell_but_for_percent(words):
    """A second opinion on the quoting; the whole of it is tried on a real systemd in tests/contract."""
    assert shlex.split(quoted(words)) == words
