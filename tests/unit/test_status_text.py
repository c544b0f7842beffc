"""What others are told of a pass."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd import forges
from gitops_mvd.core.model import (
    Change,
    Check,
    CommitStatus,
    Gate,
    Health,
    Operation,
    Outcome,
    Plan,
    PostedStatus,
    Report,
    Resource,
    Revision,
    Sync,
)
from gitops_mvd.core.redact import redact
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.state.reports import from_json, to_json
from gitops_mvd.status import status_text

REVISION = Revision("1a2b3c4" + "0" * 33, "main", "Deploy web 2")


def well(app: str, did: Plan | None = None) -> Outcome:
    return Outcome(app, Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED, did or Plan())


def bad(app: str, operation: Operation, why: str, health: Health = Health.HEALTHY) -> Outcome:
    return Outcome(app, Sync.OUT_OF_SYNC, health, operation, why=why)


def report(*outcomes: Outcome) -> Report:
    return Report("srv1", REVISION, outcomes)


def told(*outcomes: Outcome) -> tuple[Operation, Health, str]:
    status = status_text.status(report(*outcomes))
    assert status.context == "mvd/srv1"
    return status.operation, status.health, status.description


def test_it_is_green_when_every_app_is_well() -> None:
    assert told(well("web"), well("api")) == (Operation.SUCCEEDED, Health.HEALTHY, "2 apps healthy")
    assert report(well("web")).is_green


def test_a_host_without_apps_is_green() -> None:
    assert told() == (Operation.SUCCEEDED, Health.HEALTHY, "0 apps healthy")


def test_a_pass_that_changed_nothing_says_the_same_as_the_one_that_changed_all() -> None:
    changed = well("web", Plan((Change(None, Resource("unit", "mvd-web", "web")),)))
    assert status_text.status(report(changed)) == status_text.status(report(well("web")))
    assert status_text.summary(report(changed)) == status_text.summary(report(well("web")))


def test_the_cause_comes_first_and_the_others_are_named() -> None:
    operation, _, description = told(
        well("api"),
        bad("jobs", Operation.RUNNING, "Kong at http://127.0.0.1:8001 does not answer"),
        bad("web", Operation.ROLLED_BACK, "http 503 from /health for 60 s\n\nlast lines of the log"),
    )
    assert operation is Operation.ROLLED_BACK
    assert description == "web: http 503 from /health for 60 s; rolled back; also jobs"


def test_what_does_not_answer_is_waited_for_and_not_red() -> None:
    operation, _, description = told(bad("web", Operation.RUNNING, "Kong at http://127.0.0.1:8001 does not answer"))
    assert operation is Operation.RUNNING
    assert description == "web: waiting: Kong at http://127.0.0.1:8001 does not answer"


def test_an_interrupted_app_is_not_at_its_end() -> None:
    operation, _, description = told(bad("web", Operation.SUPERSEDED, "superseded by 5d6e7f8"))
    assert operation is Operation.RUNNING
    assert description == "web: interrupted: superseded by 5d6e7f8"


@pytest.mark.parametrize("health", [h for h in Health if h is not Health.HEALTHY])
def test_a_success_that_is_not_healthy_says_how_it_is(health: Health) -> None:
    outcome = Outcome("web", Sync.SYNCED, health, Operation.SUCCEEDED)
    unfinished = health in {Health.PROGRESSING, Health.UNKNOWN}
    operation = Operation.RUNNING if unfinished else Operation.SUCCEEDED
    assert told(well("api"), outcome) == (operation, health, f"web: {health.lower()}")


def test_a_way_back_that_failed_is_worse_than_one_that_did_not() -> None:
    operation, _, description = told(
        bad("api", Operation.ROLLED_BACK, "no such image"), bad("web", Operation.ROLLBACK_FAILED, "exit code 1")
    )
    assert operation is Operation.ROLLBACK_FAILED
    assert description == "web: exit code 1; the way back failed; also api"


HEALTHS, SYNCS, OPERATIONS = (st.sampled_from(list(words)) for words in (Health, Sync, Operation))
OUTCOMES = st.builds(Outcome, st.sampled_from("abc"), SYNCS, HEALTHS, OPERATIONS, why=st.text(max_size=20))


@given(st.lists(OUTCOMES, max_size=4))
def test_green_means_every_app_is_synced_healthy_and_succeeded(outcomes: list[Outcome]) -> None:
    status = status_text.status(report(*outcomes))
    green = (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)
    every = all((o.sync, o.health, o.operation) == (Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED) for o in outcomes)
    assert green == every == report(*outcomes).is_green
    assert "\n" not in status.description
    assert "\n" not in status_text.summary(report(*outcomes))


def test_the_summary_counts_and_names_what_is_not_well() -> None:
    outcomes = well("web"), bad("api", Operation.FAILED, "no such image")
    assert status_text.summary(report(*outcomes)) == ("srv1 at 1a2b3c4: 1 of 2 apps healthy; api: no such image")
    assert status_text.summary(report(well("web"))) == "srv1 at 1a2b3c4: 1 app healthy"


def test_a_commit_has_a_beginning_and_each_kind_of_end() -> None:
    def status(operation: Operation, description: str) -> CommitStatus:
        return CommitStatus("mvd/srv1", operation, Health.UNKNOWN, description)

    newer = Revision("5d6e7f8" + "0" * 33, "main")
    assert status_text.pending("srv1", REVISION) == status(Operation.RUNNING, "deploying 1a2b3c4")
    assert status_text.waiting("srv1", "no\nmore") == status(Operation.RUNNING, "waiting: no")
    assert status_text.superseded("srv1", newer) == status(Operation.SUPERSEDED, "superseded by 5d6e7f8")
    assert status_text.failed("srv1", REVISION, "fleet.yaml:3: hosts: must be a mapping") == status(
        Operation.FAILED, "fleet.yaml:3: hosts: must be a mapping; srv1 stays as it was before 1a2b3c4"
    )


def test_secrets_are_blacked_out_the_longest_first() -> None:
    assert redact("hunter2 and hunter22, not abc", ["hunter2", "hunter22", "abc", ""]) == "*** and ***, not abc"


def test_a_report_survives_json_without_its_payloads() -> None:
    unit = Resource("unit", "mvd-web", "web", "web", {"port": 20000}, payload={"password": "hunter2"})
    old = Resource("unit", "mvd-web-old", "web")
    plan = Plan((Change(None, unit), Gate(unit, Check("http", {"path": "/"}))), (Change(old, None),))
    before = report(well("web", plan), bad("api", Operation.FAILED, "odd \udcff text"))
    text = json.dumps(to_json(before))
    assert from_json(json.loads(text)) == before
    assert "hunter2" not in text


def test_what_is_back_to_earlier_content_says_so_in_green() -> None:
    back = Outcome("web", Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED, why="same version as in 1a2b3c4 (reverted)")
    report = Report("srv1", Revision("b" * 40, "main"), (back,))
    told = status_text.status(report)
    assert (told.operation, told.description) == (
        Operation.SUCCEEDED,
        "1 app healthy; web: same version as in 1a2b3c4 (reverted)",
    )
    assert status_text.summary(report) == "srv1 at bbbbbbb: 1 app healthy; web: same version as in 1a2b3c4 (reverted)"


def test_an_app_that_waits_hides_none_that_is_sick() -> None:
    sick = Outcome("web", Sync.SYNCED, Health.DEGRADED, Operation.SUCCEEDED, why="exit 1")
    waits = bad("api", Operation.RUNNING, "no answer")
    assert told(waits, sick) == (Operation.SUCCEEDED, Health.DEGRADED, "web: exit 1; also api")


def test_a_status_of_one_app_is_about_it_alone() -> None:
    status = status_text.app_status("srv1", bad("web", Operation.ROLLED_BACK, "http 503"))
    assert (status.context, status.operation) == ("mvd/srv1/web", Operation.ROLLED_BACK)
    assert status.description == "http 503; rolled back"
    assert status_text.app_status("srv1", well("web")).description == "healthy"


# ---- read back, as `mvd fleet` does ----------------------------------------------------------------------------------

SUSPENSION = Suspension("anna", "new disk")
READ = [
    (status_text.status(report(well("web"), well("api"))), Sync.SYNCED, Health.HEALTHY),
    (status_text.nothing_to_do("srv1"), Sync.SYNCED, Health.HEALTHY),
    (status_text.pending("srv1", REVISION), Sync.OUT_OF_SYNC, Health.PROGRESSING),
    (status_text.waiting("srv1", "the registry does not answer"), Sync.OUT_OF_SYNC, Health.PROGRESSING),
    (status_text.superseded("srv1", REVISION), Sync.OUT_OF_SYNC, Health.UNKNOWN),
    (status_text.suspended("srv1", SUSPENSION), Sync.OUT_OF_SYNC, Health.SUSPENDED),
    (status_text.failed("srv1", REVISION, "fleet.yaml:1: is empty"), Sync.OUT_OF_SYNC, Health.UNKNOWN),
    (status_text.status(report(bad("web", Operation.ROLLED_BACK, "http 503"))), Sync.OUT_OF_SYNC, Health.UNKNOWN),
    (
        status_text.status(report(bad("web", Operation.SUCCEEDED, "http 503", Health.DEGRADED))),
        Sync.UNKNOWN,
        Health.DEGRADED,
    ),
    (
        status_text.status(report(bad("web", Operation.ROLLBACK_FAILED, "http 503", Health.DEGRADED))),
        Sync.UNKNOWN,
        Health.DEGRADED,
    ),
]


@pytest.mark.parametrize("kind", forges.kinds())
@pytest.mark.parametrize(("posted", "sync", "health"), READ)
def test_what_was_posted_is_read_back_as_far_as_a_forge_keeps_it(
    kind: str, posted: CommitStatus, sync: Sync, health: Health
) -> None:
    states = forges.known()[kind].states
    found = PostedStatus(posted.context, states.read(states.of(posted)), posted.description, "", 0.0)
    assert status_text.read(found) == (sync, health)
