"""`metrics` and `traces`: who else may look on.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gitops_mvd.config.settings.section import address, listening, section
from gitops_mvd.config.tables import Key


@dataclass(frozen=True, slots=True)
class Metrics:
    """The address that Prometheus scrapes."""

    listen: str = "127.0.0.1:9105"


@dataclass(frozen=True, slots=True)
class Traces:
    """Where OTLP over HTTP is taken; `/v1/traces` is added to it."""

    endpoint: str


METRICS_SECTION = section(
    Metrics,
    {
        "listen": Key(
            "The address and port for `/metrics`, `/healthz` and `/readyz`, plain HTTP without a login; IPv6 as "
            '`"[::1]:9105"`. Whoever reaches it sees the names of apps, images and commits, and nothing secret. The '
            "daemon may not use a port below 1024.",
            listening,
        ),
    },
)
TRACES_SECTION = section(
    Traces,
    {
        "endpoint": Key(
            "The collector that takes OTLP over HTTP, without its `/v1/traces`: `http://127.0.0.1:4318`. It needs the "
            "extra `traces`: `pip install gitops-mvd[traces]`.",
            address("http", "https"),
        ),
    },
)
