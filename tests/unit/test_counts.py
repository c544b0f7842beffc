"""What is counted of passes and containers, told as the daemon tells it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gitops_mvd.api.views import DONE, FAILED, CommitView, OperationView, PhaseView, ResultView, StepView
from gitops_mvd.core.errors import INTERNAL, Interrupted, Lacking, MvdError, NotNow, StepFailed, Unavailable, fault_of
from gitops_mvd.metrics.counts import MOST_CONTAINERS, Counts, Histogram

FIRST, SECOND = CommitView("1" * 40, at=1000.0), CommitView("2" * 40, at=2000.0)
WELL = ResultView("shop", "Synced", "Healthy", "Succeeded")
DEPLOYED = replace(WELL, changed="web: image 1 → 2")
BACK = replace(DEPLOYED, operation="RolledBack", fault="version", why="web: no health")
CREATE = StepView("shop", "web", "create", "unit", "mvd-shop-web", state=DONE)


def operation(commit: CommitView, *results: ResultView, steps: tuple[StepView, ...] = ()) -> OperationView:
    return OperationView(1, commit, ("push",), commit.at + 1, commit.at + 12.0, steps=steps, results=results)


def test_a_deploy_is_measured_from_its_commit_to_its_end_and_only_once() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, DEPLOYED, steps=(CREATE,)))
    counts.passed(operation(FIRST, DEPLOYED, steps=(CREATE,)))
    buckets, total = counts.counted().merges
    assert total == 12.0
    assert (buckets[-1], dict(buckets)["10.0"], dict(buckets)["20.0"]) == (("+Inf", 1), 0, 1)


def test_what_is_repaired_is_no_deploy() -> None:
    counts = Counts()
    deleted = replace(CREATE, verb="delete")
    counts.passed(operation(FIRST, WELL, steps=(CREATE, replace(CREATE, verb="update"), deleted)))
    found = counts.counted()
    assert (found.repairs, found.pruned) == (2, 1)
    assert found.merges[1] == 0.0
    assert found.steps["create", DONE] == 1
    counts.passed(operation(FIRST, DEPLOYED, steps=(CREATE,)))
    assert counts.counted().repairs == 2


def test_gates_are_measured_and_no_change() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, WELL, steps=(replace(CREATE, verb="wait", seconds=2.5, state=FAILED),)))
    found = counts.counted()
    assert (found.gates[1], found.repairs, found.steps["wait", FAILED]) == (2.5, 0, 1)


def test_a_failure_counts_once_however_many_passes_find_it_again() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, WELL))
    counts.passed(operation(SECOND, BACK, steps=(CREATE,)))
    counts.passed(operation(SECOND, replace(BACK, changed="")))
    counts.passed(operation(SECOND, replace(BACK, changed="")))
    found = counts.counted()
    assert found.failures["version"] == 1
    assert found.operations == {("shop", "RolledBack"): 1}
    counts.passed(operation(FIRST, WELL))
    counts.passed(operation(SECOND, BACK))
    assert counts.counted().failures["version"] == 2


def test_what_failed_before_the_start_of_the_daemon_does_not_count() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, replace(BACK, changed="")))
    assert set(counts.counted().failures.values()) == {0}
    assert counts.counted().operations == {}


def test_a_mistake_in_a_manifest_counts_though_no_step_was_taken() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, WELL))
    counts.passed(operation(SECOND, replace(WELL, operation="RolledBack", fault="version", why="shop: unknown key")))
    found = counts.counted()
    assert (found.failures["version"], found.operations["shop", "RolledBack"]) == (1, 1)


def test_what_waits_is_a_failure_and_no_end() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, WELL))
    counts.passed(operation(SECOND, replace(WELL, operation="Running", fault="not_now")))
    found = counts.counted()
    assert (found.failures["not_now"], found.operations) == (1, {})


def test_a_pass_that_is_given_up_counts_as_such_and_changes_no_time() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, WELL))
    before = counts.counted()
    counts.passed(replace(operation(SECOND), error="Docker does not answer", phases=(PhaseView("fetch", 0.0, 4.0),)))
    found = counts.counted()
    assert found.passes == {"complete": 1, "given_up": 1}
    assert (found.pass_at, found.success_at) == (before.pass_at, before.success_at) == (1012.0, 1012.0)
    assert found.phases["fetch"][1] == 4.0


def test_the_last_success_is_the_last_time_that_all_was_well() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, WELL))
    counts.passed(operation(SECOND, replace(WELL, health="Degraded")))
    found = counts.counted()
    assert (found.success_at, found.pass_at) == (1012.0, 2012.0)


def test_what_is_counted_of_an_app_goes_with_it() -> None:
    counts = Counts()
    counts.passed(operation(FIRST, DEPLOYED, replace(DEPLOYED, app="other"), steps=(CREATE,)))
    assert ("shop", "Succeeded") in counts.counted().operations
    counts.passed(operation(SECOND, replace(WELL, app="other")))
    assert counts.counted().operations == {}


def test_a_restart_is_a_start_after_an_end() -> None:
    counts = Counts()
    for action in ("create", "start", "die", "start", "oom", "die", "start"):
        counts.container(action, "mvd-shop-web")
    counts.container("start", "mvd-shop-other")
    assert counts.counted().restarts == {"mvd-shop-web": 2}
    counts.container("die", "mvd-shop-web")
    counts.container("destroy", "mvd-shop-web")
    assert counts.counted().restarts == {}


def test_containers_whose_end_nobody_told_are_forgotten_at_last() -> None:
    counts = Counts()
    for number in range(MOST_CONTAINERS + 10):
        for action in ("die", "start"):
            counts.container(action, f"mvd-{number}")
    found = counts.counted().restarts
    assert len(found) == MOST_CONTAINERS
    assert f"mvd-{MOST_CONTAINERS + 9}" in found


def test_a_value_at_a_limit_is_within_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.add(value)
    assert histogram.buckets() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert histogram.total == 6.0


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (StepFailed("refused"), "version"),
        (NotNow("the disk is full"), "not_now"),
        (Lacking("no such device"), "lacking"),
        (Unavailable("Docker does not answer"), "unanswered"),
        (StepFailed(f"{INTERNAL}: could not create container x"), "defect"),
        (MvdError(f"{INTERNAL}, see the log of gitops-mvd: KeyError"), "defect"),
        (Interrupted("superseded by 1234567"), ""),
    ],
)
def test_whose_fault_an_error_is(error: MvdError, fault: str) -> None:
    assert fault_of(error) == fault
