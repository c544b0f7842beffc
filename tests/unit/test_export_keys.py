"""Every key of a manifest is seen in what is exported, in a document or in a comment; or it is told here why not."""

from __future__ import annotations

import pytest

from gitops_mvd.core.model import App
from gitops_mvd.exports.app import Choices
from gitops_mvd.exports.report import export, text_of
from gitops_mvd.exports.source import Exported, Source, of_swarm
from gitops_mvd.manifest.compose import BLKIO
from gitops_mvd.probes.kafka import CONSUMER, SASL
from tests.unit.test_difference import PAIRS

NETWORK = "a pod is on the one network of the cluster"
PROBE = "that the whole probe is lost is said already"
SAME_HERE = {  # keys that make another app on a host, and the same on a cluster, each with the reason
    "compose.yaml-secrets": "what is in a secret is never shown",
    "networks-attachable": NETWORK,
    "networks-labels": NETWORK,
    "networks of a service-use_service_name_alias": "a name more is in nobody's way",
    "services-cpu_period": "it is nothing without a quota",
    "services-init": "it is off anyway",
    "volumes of a service-volume": "a claim is never filled from an image",
    "volume-nocopy": "a claim is never filled from an image",
    "services-depends_on": "which pod starts first makes no difference, if it is not waited for",
    "bind-create_host_path": "a path of a node is taken as it is",
    "bind-selinux": "the kubelet relabels what it mounts",
    "logging-options": "they are those of the journal",
    **{f"blkio_config-{key}": "that all of it is lost is said already" for key in BLKIO},
    "update_config-failure_action": "a rollout that fails stands still, whatever is written",
    "update_config-parallelism": "there is one pod",
    "devices-driver": "nvidia it is anyway",
    "health-every": PROBE,
    **{f"kafka-{key}": PROBE for key in CONSUMER},
    **{f"kafka: sasl-{key}": PROBE for key in SASL},
}


def shown(app: App) -> str:
    source = Source(
        app.name, tuple(of_swarm(Exported(it, (), ("web1",))) for it in app.services), app.volumes, app.networks
    )
    return text_of(export(source, Choices()))


@pytest.mark.parametrize("key", PAIRS)
def test_no_key_is_silent(key: str) -> None:
    before, after = PAIRS[key]
    assert (shown(before) == shown(after)) == (key in SAME_HERE)


def test_each_key_that_is_the_same_here_is_a_key() -> None:
    assert SAME_HERE.keys() <= PAIRS.keys()
