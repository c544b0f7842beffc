"""`tcp`: healthy once something accepts connections on that port of the container.

It asks the container's own address: docker-proxy accepts on a published port with nothing behind it.
"""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.net.dial import dial
from gitops_mvd.probes import Tools

DEADLINE = 2.0


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    port, within = spec["port"], spec.get("timeout", DEADLINE)
    try:
        dial(at.ip, port, within).close()
    except ConnectionRefusedError:
        return Health.PROGRESSING, f"nothing listens on port {port}"
    except TimeoutError:
        return Health.PROGRESSING, f"port {port} does not answer within {within:g} s"
    except OSError as error:
        return Health.UNKNOWN, f"port {port} can not be asked: {error.strerror or error}"
    return Health.HEALTHY, ""
