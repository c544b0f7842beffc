"""`tcp`: healthy once something accepts connections on that port of the container.

It asks the container's own address: docker-proxy accepts on a published port with nothing behind it.
"""

from __future__ import annotations

import socket

from gitops_mvd.model import Health, Instance, Json
from gitops_mvd.probes import Tools

DEADLINE = 2.0


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    try:
        socket.create_connection((at.ip, spec["port"]), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return Health.PROGRESSING, f"nothing listens on port {spec['port']}"
    except TimeoutError:
        return Health.PROGRESSING, f"port {spec['port']} does not answer within {DEADLINE:g} s"
    except OSError as error:
        return Health.UNKNOWN, f"port {spec['port']} can not be asked: {error.strerror or error}"
    return Health.HEALTHY, ""
