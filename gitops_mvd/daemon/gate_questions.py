"""What a rollout asks at an address between two waves: a Prometheus, or any page."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from gitops_mvd.core.addresses import is_reachable_here_only, split_url
from gitops_mvd.core.text import first_words
from gitops_mvd.core.waves import Question
from gitops_mvd.net.line import limit
from gitops_mvd.net.reasons import reason

if TYPE_CHECKING:
    import requests

WITHIN_SECONDS = 10.0
LARGEST_ANSWER = 1 << 20  # bytes


def ask(question: Question) -> str:
    """Why the gate is closed; "" if it is open.  What does not answer keeps it closed.

    The address is the repository's, which is not trusted with this server: what only this server reaches is not asked,
    and no redirect is followed.
    """
    import requests

    from gitops_mvd.net.adapter import content, session

    where = _where(question)
    host, port = split_url(question.url)
    url, query = question.url, None
    if question.query:
        url, query = f"{question.url}/api/v1/query", {"query": question.query}
    try:
        if any(is_reachable_here_only(str(it[4][0])) for it in socket.getaddrinfo(host, port)):
            return f"{where} leads to this server itself, which is not asked"
        with session() as asking, limit(WITHIN_SECONDS, LARGEST_ANSWER):
            asking.auth = _nobody  # and so no login of a ~/.netrc
            with asking.get(url, params=query, timeout=WITHIN_SECONDS, allow_redirects=False, stream=True) as answer:
                said = content(answer, LARGEST_ANSWER)
                return _closed(where, answer, said, is_prometheus=bool(question.query))
    except (requests.RequestException, OSError, UnicodeError) as error:
        return f"cannot ask {where}: {reason(error)}"


def _closed(where: str, answer: requests.Response, said: bytes, *, is_prometheus: bool) -> str:
    text = said.decode(errors="replace")
    if not 200 <= answer.status_code < 300:
        return f"{where} answers {answer.status_code}: {first_words(text, 60)}".removesuffix(": ")
    if not is_prometheus:
        return ""
    try:
        data: Any = json.loads(text)["data"]
        result = data["result"]
        is_open = bool(result) and (data["resultType"] != "scalar" or float(result[1]) != 0)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return f"{where} answers something else than a Prometheus"
    return "" if is_open else f"{where}: the query returns nothing"


def _where(question: Question) -> str:
    return f"{'Prometheus at ' if question.query else ''}{split_url(question.url)[0]}"


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
