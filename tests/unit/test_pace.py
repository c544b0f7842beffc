"""What Kong's own settings cost a deploy."""

from gitops_mvd.core.model import Json, JsonValue
from gitops_mvd.kong.pace import costs

SETTINGS: Json = {
    "database": "postgres",
    "upstream_keepalive_idle_timeout": 60,
    "upstream_keepalive_pool_size": 512,
    "worker_consistency": "eventual",
    "worker_state_update_frequency": 5,
    "db_update_frequency": 5,
}


def told(**settings: JsonValue) -> list[str]:
    return list(costs({"configuration": {**SETTINGS, **settings}}, counts_requests=False))


def test_idle_connections_cost_the_grace_period_where_nobody_can_tell_them_from_busy_ones() -> None:
    idle, *_ = told(upstream_keepalive_idle_timeout=30)
    assert idle == (
        "upstream_keepalive_idle_timeout 30 s: Kong keeps idle connections to instances for so long, and nobody can "
        "tell them from busy ones here: an old instance gets its stop_grace_period"
    )


def test_a_kong_that_keeps_no_connection_costs_nothing() -> None:
    for settings in ({"upstream_keepalive_pool_size": 0}, {"upstream_keepalive_idle_timeout": 0}):
        assert not any("idle" in line for line in told(**settings))


def test_strict_workers_use_a_route_at_once() -> None:
    assert "worker_consistency strict: a changed route is used at once, and requests wait while it is built in" in told(
        worker_consistency="strict"
    )


def test_what_kong_does_not_tell_costs_nothing_that_is_known() -> None:
    assert list(costs({}, counts_requests=False)) == []
    assert (
        list(costs({"configuration": {"database": "postgres", "db_update_frequency": "?"}}, counts_requests=True)) == []
    )
