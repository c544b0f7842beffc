"""What is shown of a server: routes as people write them, and events as they were logged."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gitops_mvd.core.model import COMPLETED, App, Check, Health, Instance, Operation, Service, Sync
from gitops_mvd.core.redact import learn
from gitops_mvd.daemon.changes import Changes
from gitops_mvd.daemon.events import MOST_EVENTS, Events
from gitops_mvd.daemon.host_view import AppState, HostViews, matches
from gitops_mvd.host.health import ServiceHealth
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.operations import OperationsFile


def test_of_what_does_not_run_all_the_time_no_instance_is_wanted(tmp_path: Path) -> None:
    web = Service("web", "v1", replicas=2)
    services = (web, Service("migrate", "v1", check=Check(COMPLETED)), replace(web, name="nightly", schedule="daily"))
    states = {"web": "running", "migrate": "exited", "nightly": "running"}
    found = [
        ServiceHealth(it, Health.HEALTHY, "", ((Instance(it.name, state=states[it.name]), Health.HEALTHY, ""),))
        for it in services
    ]
    history = SqliteHistory(tmp_path / "history.db")
    history.approve(App("shop", services), "a" * 40)
    host: Any = SimpleNamespace(name="h1", is_observed=True, services=lambda app, asked: found)
    views = HostViews(host, history, OperationsFile(tmp_path / "operations.db"))
    [shop] = views.view(
        [AppState("shop", Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED)], at=1.0, revision=None
    ).apps
    counts = {it.name: (it.ready, it.wanted) for it in shop.services}
    assert counts == {"web": (1, 2), "migrate": (0, 0), "nightly": (1, 0)}


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ({"paths": ["/shop", "/store"]}, ["/shop", "/store"]),
        ({"hosts": ["shop.example"]}, ["shop.example/"]),
        ({"hosts": ["a.example", "b.example"], "paths": ["/v1"]}, ["a.example/v1", "b.example/v1"]),
        ({"methods": ["POST", "PUT"], "paths": ["/orders"]}, ["POST PUT /orders"]),
        ({"methods": ["GET"]}, ["GET /"]),
        ({"expression": 'http.path == "/x"'}, ['http.path == "/x"']),
        ({"protocols": ["tls"], "snis": ["db.example"]}, ["sni db.example"]),
        ({"protocols": ["tcp"], "destinations": [{"port": 5432}]}, ["destination 5432"]),
        ({"sources": [{"ip": "10.0.0.0/8", "port": 1}]}, ["source 10.0.0.0/8:1"]),
        ({}, []),
        ({"paths": None, "hosts": None}, []),
    ],
)
def test_a_route_is_shown_as_people_write_it(route: dict[str, Any], told: list[str]) -> None:
    assert list(matches(route)) == told


@pytest.fixture
def logger() -> logging.Logger:
    found = logging.getLogger("gitops_mvd.a_test_of_events")
    found.setLevel(logging.INFO)
    return found


def test_events_are_numbered_and_given_out_behind_an_id(logger: logging.Logger) -> None:
    changes = Changes()
    before = changes.number
    with Events(changes) as events:
        logger.info("reconciled result=%s", "well")
        logger.warning("waiting for=%s", "git\nsecond line")
    logger.info("after the end")
    found = events.behind(0, 10)
    assert [(it.id, it.level, it.text) for it in found.events] == [
        (1, "info", "reconciled result=well"),
        (2, "warning", "waiting for=git"),
    ]
    assert [it.id for it in events.behind(1, 10).events] == [2]
    assert events.behind(2, 10).events == ()
    assert changes.number == before + 2


def test_who_knows_an_id_of_the_daemon_before_begins_anew(logger: logging.Logger) -> None:
    with Events(Changes()) as events:
        logger.info("first")
    assert [it.text for it in events.behind(999, 10).events] == ["first"]


def test_only_so_many_are_kept_and_those_that_are_gone_are_counted(logger: logging.Logger) -> None:
    with Events(Changes()) as events:
        for number in range(MOST_EVENTS + 5):
            logger.info("event %d", number)
    found = events.behind(0, MOST_EVENTS)
    assert (len(found.events), found.missed, found.last) == (MOST_EVENTS, 5, MOST_EVENTS + 5)


def test_no_secret_is_in_an_event(logger: logging.Logger) -> None:
    learn("a test of events", "hunter2-hunter2-events")
    with Events(Changes()) as events:
        logger.error("refused by=%s", "hunter2-hunter2-events")
    assert [it.text for it in events.behind(0, 1).events] == ["refused by=***"]
