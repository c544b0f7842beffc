"""The check of `mvd doctor` that is about GPUs and devices of CDI: what the host has, and what Git wants of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gitops_mvd.cli.finding import Finding
from gitops_mvd.cli.machine import DAEMON_JSON
from gitops_mvd.cli.output import counted
from gitops_mvd.core.errors import MvdError

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired
    from gitops_mvd.docker.devices import Devices

GPU = "gpu"  # the label that says of a host that it has some
NO = ("", "false", "no", "off", "none", "0")


def devices(wired: Wired) -> Iterator[Finding]:
    """What Docker can give to containers, and what this host lacks of what the repository wants."""
    from gitops_mvd.docker.devices import TOOLKIT, devices_of

    if not wired.engine.is_local:
        return
    found = devices_of(wired.engine)
    yield Finding("devices", "ok", _listed(found))
    if found.gpus and not found.gives_gpus:
        yield Finding("devices", "warn", f"Docker has no driver for {counted(found.gpus, 'GPU')}", TOOLKIT.capitalize())
    if found.named is None:
        message = "a description of devices cannot be read, so services that name some are refused only as they start"
        yield Finding("devices", "warn", message, f"See {' and '.join(found.folders)}; docker info tells of mistakes")
    elif found.named and not found.reads_cdi:
        hint = f'Set "features": {{"cdi": true}} in {DAEMON_JSON}, which needs Docker 25, and restart Docker'
        yield Finding("devices", "warn", "Docker reads no descriptions of devices (CDI), and there are some", hint)
    yield from _wanted(wired, found)


def _listed(found: Devices) -> str:
    from gitops_mvd.docker.devices import some

    gpus = [counted(found.gpus, "GPU") + " of NVIDIA"] if found.gpus else []
    named = [some(sorted(found.named))] if found.named else []
    return "; ".join(gpus + named) or "no GPU, and none that CDI describes"


def _wanted(wired: Wired, found: Devices) -> Iterator[Finding]:
    """What the followed branch wants of this host that it has not."""
    from gitops_mvd.docker.create import device_requests
    from gitops_mvd.manifest import load, read_fleet

    try:
        revision = wired.source.last()
        if not revision:
            return
        tree = wired.source.tree(revision)
        facts = read_fleet(tree).host(wired.host.name)
    except MvdError:  # the check of the repository says why
        return
    if facts.labels.get(GPU, "").lower() not in NO and not found.gives_gpus:
        message = f"fleet.yaml has the label {GPU}={facts.labels[GPU]} for this host, and Docker has no driver for GPUs"
        yield Finding("devices", "warn", message, "Install the container toolkit of its driver, or take the label away")
    for app in load(tree, facts)[0]:
        for service in app.services:
            if refused := found.refusal(device_requests(service.run)):
                message = f"{app.name}.{service.name}: {refused.key}: {refused.message}"
                yield Finding("devices", "warn", message, refused.hint[:1].upper() + refused.hint[1:])
