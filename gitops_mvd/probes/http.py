"""`http`: healthy once a GET of that path answers with a good status (any below 400, or one of `status`)."""

from __future__ import annotations

import requests

from gitops_mvd.model import Health, Instance, Json
from gitops_mvd.probes import Tools

DEADLINE = 2.0


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    path = spec["path"]
    url = f"http://{at.ip}:{spec['port']}{path}"
    try:
        with requests.get(url, timeout=DEADLINE, allow_redirects=False, stream=True) as answer:
            code = answer.status_code
    except requests.Timeout:
        return Health.PROGRESSING, f"http {path} does not answer within {DEADLINE:g} s"
    except requests.ConnectionError:
        return Health.PROGRESSING, f"http {path} refuses the connection on port {spec['port']}"
    except requests.RequestException as error:
        return Health.UNKNOWN, f"http {path} can not be asked: {type(error).__name__}"
    if code in spec["status"] if "status" in spec else code < 400:
        return Health.HEALTHY, ""
    return Health.PROGRESSING, f"http {code} from {path}"
