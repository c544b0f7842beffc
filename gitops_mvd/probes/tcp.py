"""`tcp`: healthy once something accepts connections on that port of the container.

It asks the container's own address: docker-proxy accepts on a published port with nothing behind it.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from gitops_mvd.config.readers import port_number
from gitops_mvd.config.tables import Key
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.net.line import dial
from gitops_mvd.probes import TIMEOUT, TRY_SECONDS, Answer, ProbeTools, ProbeType, always


class Spec(TypedDict):
    port: int
    timeout: NotRequired[float]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    port, within = spec["port"], spec.get("timeout", TRY_SECONDS)
    try:
        with dial(at.ip, port, within):
            pass
    except ConnectionRefusedError:
        return Health.PROGRESSING, f"nothing listens on port {port}"
    except TimeoutError:
        return Health.PROGRESSING, f"port {port} does not answer within {within:g} s"
    except OSError as error:
        return Health.UNKNOWN, f"port {port} cannot be asked: {error.strerror or error}"
    return Health.HEALTHY, ""


PROBE = ProbeType(
    key=Key("The port that must accept a connection.", port_number),
    argument="port",
    options={"timeout": TIMEOUT},
    summary=lambda spec: str(spec["port"]),
    connects=True,
    is_monitored=always,
    passes_ended=False,
    only_waits=False,
    check=check,
)
