"""GitHub and GitHub Enterprise (https://docs.github.com/en/rest)."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import urllib.parse
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedStatus, PullRequest
from gitops_mvd.core.text import first_words
from gitops_mvd.forges import ForgeType, Pipeline, StateNames, newest, status_event
from gitops_mvd.forges.api import Account, Api, Explanation, Query, Refused, cut, cut_text, moment
from gitops_mvd.forges.api.address import Address, Location, last_two_parts

if TYPE_CHECKING:
    import requests

PUBLIC = "https://api.github.com"
LONGEST_DESCRIPTION = 140
MOST = 100  # on one page
LONGEST_COMMENT = 65536
LONGEST_ENVIRONMENT = 255
LONGEST_TASK = 128  # GitHub does not say; what is longer is shortened without becoming another's
LOOKED_THROUGH = 500  # deployments, for those that still show success
REMEMBERED = 1000  # deployments whose numbers need not be asked for

STATES = StateNames(
    {
        Operation.RUNNING: "pending",
        Operation.FAILED: "failure",
        Operation.ROLLED_BACK: "failure",
        Operation.ROLLBACK_FAILED: "failure",
        Operation.SUPERSEDED: "error",
    },
    {
        Health.HEALTHY: "success",
        Health.PROGRESSING: "pending",
        Health.DEGRADED: "failure",
        Health.MISSING: "failure",
        Health.SUSPENDED: "error",
        Health.UNKNOWN: "error",
    },
)
DEPLOYED = {"pending": "in_progress"}  # what a deployment has another word for
REPLACED = "replaced by a newer version"


class GitHub:
    """One repository, `owner/name`, of the API at the base URL (of an Enterprise server, `https://HOST/api/v3`)."""

    def __init__(self, account: Account) -> None:
        self._name = account.repository
        self._repository = f"/repos/{urllib.parse.quote(account.repository)}"
        shown: deque[str] = deque(maxlen=4)  # the tokens that an answer can repeat

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            token = account.token()
            if token not in shown:
                shown.append(token)
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        def renew(refused: requests.PreparedRequest) -> bool:
            return account.renew(str(refused.headers["Authorization"]).removeprefix("Bearer "))

        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        self._api = Api(
            "GitHub",
            account.base_url or PUBLIC,
            sign,
            lambda: list(shown),
            headers=headers,
            explain=self._explain,
            renew=renew,
            within=account.within,
            ca_file=account.ca_file,
        )
        self._deployments = Deployments(self._api, account.repository)

    def publish(self, commit: str, status: CommitStatus) -> None:
        if status.environment:
            return self._deployments.publish(commit, status)
        body = {
            "state": STATES.of(status),
            "context": status.context,
            "description": cut(status.description, LONGEST_DESCRIPTION),
            "target_url": status.url or None,
        }
        path = f"{self._repository}/statuses/{urllib.parse.quote(commit, safe='')}"
        self._api.ask("POST", path, f"post statuses to {self._name}", body)

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        """By the combined status: it has the newest of each context, and the list of all each that was ever posted."""
        of = f"{self._repository}/commits/{urllib.parse.quote(commit, safe='')}"
        to = f"read statuses of {self._name}"
        read: list[PostedStatus] = []
        for page in self._api.pages(to):
            try:
                found = self._api.ask("GET", f"{of}/status", to, query={"per_page": MOST, "page": page})
            except Refused as error:
                if error.code == 404:  # the repository, or the commit, which this question tells apart
                    self._api.ask("GET", of, to, query={"per_page": 1})
                raise
            with self._api.reading():
                read += [_posted(status) for status in found["statuses"]]
                if not found["statuses"] or len(read) >= found["total_count"]:
                    break
        return newest(read)

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        query: Query = {"state": "open", "base": branch, "sort": "created", "direction": "desc", "per_page": MOST}
        found = self._api.ask("GET", f"{self._repository}/pulls", f"list pull requests of {self._name}", query=query)
        with self._api.reading():
            return [_pull_request(pull) for pull in found]

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        of = f"{self._repository}/issues"
        to = f"comment on pull requests of {self._name}"
        body = {"body": cut_text(text, LONGEST_COMMENT)}
        made = None
        if known := known or self._find_comment(pull_request, text.partition("\n")[0], to):
            try:
                made = self._api.ask("PATCH", f"{of}/comments/{known}", to, body)
            except Refused as error:
                if error.code != 404:
                    raise
        made = made or self._api.ask("POST", f"{of}/{pull_request.number}/comments", to, body)
        with self._api.reading():
            return str(made["id"])

    def _find_comment(self, pull_request: PullRequest, first_line: str, to: str) -> str:
        path = f"{self._repository}/issues/{pull_request.number}/comments"
        for page in self._api.pages(to):
            found = self._api.ask("GET", path, to, query={"per_page": MOST, "page": page})
            with self._api.reading():
                for comment in found:
                    if first_line == (comment["body"] or "").partition("\n")[0].rstrip("\r"):
                        return str(comment["id"])
            if not found:
                break
        return ""

    def _explain(self, code: int, said: str) -> Explanation | None:
        if code in (301, 302, 307, 308):
            return f"{self._api.where} says that {self._name} has moved", "put its new name into the settings"
        if code == 422 and "maximum number of statuses" in said:
            return f"{self._api.where} takes no more than 1000 statuses of one context for a commit", ""
        if code == 422 and ("No commit found" in said or "No ref found" in said):
            return self._api.unknown_commit
        if code == 409:
            hint = "it waits for a merge or for checks, which it was asked not to"
            return f"{self._api.where} makes no deployment of the commit: {first_words(said)}", hint
        return None


class _Status(TypedDict):
    context: str
    state: str
    description: str | None
    target_url: str | None
    updated_at: str


def _posted(status: _Status) -> PostedStatus:
    description, url = status["description"] or "", status["target_url"] or ""
    return PostedStatus(status["context"], STATES.read(status["state"]), description, url, moment(status["updated_at"]))


class _Repository(TypedDict):
    full_name: str


class _Head(TypedDict):
    sha: str
    repo: _Repository | None  # None once a fork was deleted


class _Base(TypedDict):
    repo: _Repository


class _Pull(TypedDict):
    number: int
    head: _Head
    base: _Base


def _pull_request(pull: _Pull) -> PullRequest:
    """A fork that was deleted meanwhile has no repository any more."""
    head, base = pull["head"], pull["base"]
    is_fork = not head["repo"] or head["repo"]["full_name"] != base["repo"]["full_name"]
    return PullRequest(pull["number"], head["sha"], f"refs/pull/{pull['number']}/head", is_fork)


# ---- deployments -----------------------------------------------------------------------------------------------------


class Deployments:
    """Statuses with an environment, as deployments: one of each commit, environment and context.

    The context is in the task, so that the hosts of one environment do not retire each other's.  What a context had
    deployed before becomes inactive once its new version has succeeded, and not earlier: until then, and after a
    rollback, that is what runs.  The numbers grow, so it is known which of two was begun later, whatever is told last.
    Nothing is lost where it breaks off, as the next try finds what there is.
    """

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._path = f"/repos/{urllib.parse.quote(name)}/deployments"
        self._to = f"post deployments to {name}"
        self._known: dict[tuple[str, str, str], int] = {}  # commit, environment and task -> number of one not inactive
        self._green: dict[tuple[str, str], set[int]] = {}  # environment and task -> what shows success, where known

    def publish(self, commit: str, status: CommitStatus) -> None:
        environment = _shorten(status.environment, LONGEST_ENVIRONMENT)
        task = _shorten(f"deploy:{status.context}", LONGEST_TASK)
        state = "inactive" if status.operation is Operation.SUPERSEDED else STATES.of(status)
        body = {
            "state": DEPLOYED.get(state, state),
            "description": cut(status.description, LONGEST_DESCRIPTION),
            "auto_inactive": False,
            **({"log_url": status.url} if status.url else {}),
        }
        key = commit, environment, task
        number = self._known.pop(key, 0)
        if not (number and self._post(number, body)):  # not known, or deleted meanwhile
            number = self._find(*key, anew=status.operation is Operation.RUNNING)
            if not number and state == "inactive":
                return  # it was never begun, so there is no end of it to be told
            number = number or self._make(*key, status.context)
            if not self._post(number, body):
                raise Unavailable(f"{self._api.where} does not know the deployment that it has made")
        if state != "inactive":
            self._remember(key, number)
        if state == "success":
            self._retire(number, environment, task)
        else:
            self._green.get((environment, task), set()).discard(number)

    def _remember(self, key: tuple[str, str, str], number: int) -> None:
        self._known[key] = number
        for oldest in list(self._known)[:-REMEMBERED]:
            del self._known[oldest]

    def _post(self, number: int, body: Mapping[str, object]) -> bool:
        """Give a deployment a status; is there such a one?"""
        try:
            self._api.ask("POST", f"{self._path}/{number}/statuses", self._to, body)
        except Refused as error:
            if error.code != 404:
                raise
            return False
        return True

    def _find(self, commit: str, environment: str, task: str, *, anew: bool) -> int:
        """The last deployment of that; where it begins `anew`, one that is inactive by now is not taken up again."""
        for number, sha in self._list({"sha": commit, "environment": environment, "task": task}):
            if sha == commit:
                return 0 if anew and self._shown(number)[0] == "inactive" else number
        return 0

    def _make(self, commit: str, environment: str, task: str, context: str) -> int:
        """Without checks to wait for, and nothing merged: what is told has happened."""
        body = {
            "ref": commit,
            "task": task,
            "environment": environment,
            "auto_merge": False,
            "required_contexts": [],
            "description": cut(context, LONGEST_DESCRIPTION),
            "payload": {"context": context},
        }
        made = self._api.ask("POST", self._path, self._to, body)
        with self._api.reading():
            return int(made["id"])

    def _retire(self, number: int, environment: str, task: str) -> None:
        """Of all that shows success, leave only what was begun last."""
        place = environment, task
        if place not in self._green:  # in this process
            self._green[place] = self._other_green(number, environment, task)
        green = self._green[place]
        green.add(number)
        for old in sorted(green)[:-1]:
            body = {"state": "inactive", "description": REPLACED, "auto_inactive": False}
            self._post(old, body)
            green.discard(old)
            for key in [key for key, known in self._known.items() if known == old]:
                del self._known[key]

    def _other_green(self, number: int, environment: str, task: str) -> set[int]:
        """What else shows success.  None that is older than one that was replaced does, as the oldest goes first."""
        green = set()
        others = (other for other, _ in self._list({"environment": environment, "task": task}) if other != number)
        for other in itertools.islice(others, LOOKED_THROUGH):
            state, description = self._shown(other)
            if state == "success":
                green.add(other)
            if (state, description) == ("inactive", REPLACED):
                break
        return green

    def _shown(self, number: int) -> tuple[str, str]:
        """The state of a deployment and why, "" where it has none yet."""
        last = self._api.ask("GET", f"{self._path}/{number}/statuses", self._to, query={"per_page": 1})
        with self._api.reading():
            return (last[0]["state"], last[0].get("description") or "") if last else ("", "")

    def _list(self, query: dict[str, str | int]) -> Iterator[tuple[int, str]]:
        """The number and the commit of each, the newest first."""
        for page in self._api.pages(self._to):
            found = self._api.ask("GET", self._path, self._to, query={**query, "per_page": MOST, "page": page})
            with self._api.reading():
                read = [(int(one["id"]), str(one["sha"])) for one in found if one["task"] == query["task"]]
            yield from read
            if len(found) < MOST:
                return


def _shorten(name: str, most: int) -> str:
    """Two names stay two, however long."""
    if len(name) <= most:
        return name
    return f"{name[: most - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


# ---- webhooks --------------------------------------------------------------------------------------------------------


def authentic(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    wanted = "sha256=" + hmac.new(secret.encode(errors="replace"), body, hashlib.sha256).hexdigest()
    given = headers.get("x-hub-signature-256", "")
    return bool(secret) and hmac.compare_digest(given.encode(errors="replace"), wanted.encode())


def event(headers: Mapping[str, str], body: bytes) -> Event:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads"""
    match headers.get("x-github-event", ""):
        case "push":
            ref = _told(headers, body).get("ref")
            return Event("push", ref if isinstance(ref, str) else "")
        case "pull_request":
            return Event("pull_request")
        case "status":
            told = _told(headers, body)
            return status_event(STATES, told.get("sha"), told.get("context"), told.get("state"))
        case "ping":
            return Event("ping")
        case _:
            return Event("other")


def _told(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    """The JSON of a hook, also out of the form that GitHub can put it in; nothing where it is none."""
    try:
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            body = urllib.parse.parse_qs(body, max_num_fields=10).get(b"payload", [b""])[0]
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


# ---- CI --------------------------------------------------------------------------------------------------------------

PIPELINE = Pipeline(
    ".github/workflows/validate.yaml",
    """\
name: validate
on: pull_request
permissions:
  contents: read

jobs:
  validate:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - uses: actions/setup-python@v6
        with:
          python-version: "3.12"
      - run: pip install -r requirements.txt
      - run: mvd validate
""",
)


# ---- the forge -------------------------------------------------------------------------------------------------------


def locate(address: Address) -> Location:
    """Each edition has its API elsewhere: https://docs.github.com/en/rest"""
    repository, _ = last_two_parts(address)
    if address.host == "github.com":
        return repository, ""
    return repository, f"https://api.{address.host}" if address.host.endswith(".ghe.com") else address.base_url(
        ["api/v3"]
    )


def page(base_url: str, repository: str, commit: str) -> str:
    """Each edition has its pages where its API is not."""
    site = base_url.removesuffix("/api/v3").replace("://api.", "://") or "https://github.com"
    return f"{site}/{urllib.parse.quote(repository)}/commit/{commit}"


FORGE = ForgeType(
    names={"github": ["github.com"]},
    connect=GitHub,
    states=STATES,
    authentic=authentic,
    event=event,
    page=page,
    locate=locate,
    pipelines={"github": PIPELINE},
)
