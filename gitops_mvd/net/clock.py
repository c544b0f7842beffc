"""How far the clock of this machine is from that of a web server."""

from __future__ import annotations

import time
import warnings
from email.utils import parsedate_to_datetime

import requests
from urllib3.exceptions import InsecureRequestWarning

from gitops_mvd.net.adapter import session
from gitops_mvd.net.line import limit

WITHIN_SECONDS = 10.0
LARGEST_ANSWER = 1 << 20  # bytes


def ahead_of(url: str) -> float | None:
    """The seconds by which this clock is ahead of the server's at `url`; None if that does not tell its time.

    Nothing secret is sent, and the certificate is not checked: one that seems to have expired is what a wrong clock
    looks like.
    """
    with session() as asking, warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)
        asking.auth = _nobody  # and so no login of a ~/.netrc
        try:
            with (
                limit(WITHIN_SECONDS, LARGEST_ANSWER),
                asking.head(url, timeout=WITHIN_SECONDS, allow_redirects=False, verify=False) as answer,
            ):
                return time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except (requests.RequestException, OSError, ValueError, LookupError):
            return None


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
