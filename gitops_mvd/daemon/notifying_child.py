"""The process that sends one message: run by `notifying`, it prints why that has failed as JSON, "" if it has not."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback

from gitops_mvd.core.notice_address import pieces
from gitops_mvd.core.redact import redact
from gitops_mvd.core.text import plain_line

LONGEST_WHY = 500  # characters
_CAUSE = re.compile(r"\[Errno -?\d+\] ([^\"')]+)|CERTIFICATE_VERIFY_FAILED\] ([^(]+)|(timed out)")


class Complaints(logging.Handler):
    """What apprise says while it sends: what it warns of, and before that, at a lower level, the cause."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.warnings: list[str] = []
        self.causes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.warnings.append(said)
        elif "exception" in said.lower():
            self.causes.append(said)

    def why(self) -> str:
        """The reason in one line, "" if there was no complaint."""
        found = (_CAUSE.search(cause) for cause in self.causes[-1:])
        causes = [(it[1] or it[2] or it[3]).strip().lower() for it in found if it]
        return ": ".join((*dict.fromkeys(it.rstrip(". ") for it in self.warnings[-2:]), *causes))


def send(address: str, title: str, body: str, kind: str) -> str:
    """Send it.  The reason why that has failed, "" if it has not."""
    import apprise

    complaints = Complaints()
    log = logging.getLogger("apprise")
    log.addHandler(complaints)
    log.setLevel(logging.DEBUG)
    asset = apprise.AppriseAsset(
        app_id="gitops-mvd", app_desc="gitops-mvd", app_url="", image_url_mask="", image_url_logo="", async_mode=False
    )
    receivers = apprise.Apprise(asset=asset)
    if not receivers.add(address):
        return f"apprise does not know such an address, or something is missing in it: {complaints.why()}".rstrip(": ")
    if receivers.notify(body=body, title=title, notify_type=apprise.NotifyType(kind), body_format="text"):
        return ""
    return complaints.why() or "the receiver has not taken it"


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a plugin prints, or a program that it runs, is no part of the answer
    given = json.loads(sys.stdin.buffer.read())
    secrets = pieces(given["address"])
    try:
        why = send(**given)
        print(json.dumps({"why": plain_line(redact(why, secrets), LONGEST_WHY)}), file=answer, flush=True)
    except Exception as error:
        sys.exit(redact("".join(traceback.format_exception_only(error)), secrets).strip())
