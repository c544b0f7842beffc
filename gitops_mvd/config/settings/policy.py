"""`policy`: what the repository may not do with this server.  Pure."""

from __future__ import annotations

import ipaddress
import re

from gitops_mvd.config.readers import absolute, either, filled, one_of, tuple_of
from gitops_mvd.config.settings.section import section
from gitops_mvd.config.tables import Key, Place, accepts
from gitops_mvd.core.policy import LEVELS, Policy


@accepts({"type": ["integer", "string"], "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$", "minimum": 1, "maximum": 65535})
def _ports(place: Place) -> tuple[int, int]:
    """A port, or the first and the last of several."""
    value = str(place.scalar("a port, or a first and a last one"))
    first, _, last = value.partition("-")
    if not re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?", value) or not 1 <= int(first) <= int(last or first) <= 65535:
        place.fail(f"must be a port, or a first and a last one such as `8000-8999`, not {value!r}")
    return int(first), int(last or first)


@accepts({"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"})
def _network(place: Place) -> str:
    value = filled(place)
    try:
        ipaddress.ip_network(value)
    except ValueError:
        place.fail(f"must be a network such as 10.20.0.0/16, not {value!r}")
    return value


POLICY_SECTION = section(
    Policy,
    {
        "level": Key(
            "What containers may be, as in Kubernetes' Pod Security Standards: anything (`privileged`), what stays "
            "inside of the container (`baseline`), or only what is hardened as well (`restricted`).",
            one_of(*LEVELS),
        ),
        "trusted": Key(
            "The apps that may do anything, such as a Kong on the host's own network.", tuple_of(filled), "none"
        ),
        "mounts": Key(
            "The host folders that other apps may mount, with all folders below.", tuple_of(absolute), "none"
        ),
        "registries": Key(
            "The registries that images of other apps may come from, `docker.io` for Docker Hub.",
            tuple_of(filled),
            "any",
        ),
        "shared": Key(
            "Volumes and networks of others, or of this host, that other apps may use, by their real names.",
            tuple_of(filled),
            "none",
        ),
        "secrets": Key(
            "The secrets of this host that other apps may use beside their own, which are named after the app: "
            "`shop.db` or `shop_db` for the app `shop`. A secret of a provider is `vault:kv/data/shop#db`, and all "
            "of that path `vault:kv/data/shop`; one of Kong's own vaults is `vault://env/pg-password`, and all of it "
            "`vault://env`.",
            tuple_of(filled),
            "none",
        ),
        "plugins": Key(
            "The plugins of Kong that other apps may use with any settings. Those that come with Kong and run no code, "
            "write no file and connect to nothing on this host need not be named.",
            tuple_of(filled),
            "none",
        ),
        "volume_drivers": Key(
            "The drivers that volumes of other apps may have, with any options. `local` need not be named, and has no "
            "options unless it is.",
            tuple_of(filled),
            "none",
        ),
        "ports": Key(
            'The ports of this host that other apps may publish, such as `[443, "8000-8999"]`. Those of `127.0.0.1` '
            "and `::1`, and any free one, need not be named.",
            tuple_of(_ports),
            "none",
        ),
        "sysctls": Key(
            "The kernel parameters that other apps may set in their containers beside the safe ones, such as "
            "`net.core.somaxconn`.",
            tuple_of(filled),
            "none",
        ),
        "subnets": Key(
            "The networks that the subnets of other apps may lie in beside `172.16.0.0/12` and `fd00::/8`.",
            tuple_of(_network),
            "none",
        ),
    },
)


@accepts(either(one_of(*LEVELS).schema, POLICY_SECTION.schema))
def read_policy(place: Place) -> Policy:
    """A level alone, or the section."""
    if isinstance(place.value(), str):
        return Policy(level=one_of(*LEVELS)(place))
    return POLICY_SECTION(place)
