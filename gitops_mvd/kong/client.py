"""One Kong, with or without a database: what it holds of ours, and how that is changed."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.core.model import Health, Json, Resource
from gitops_mvd.kong import database, document, route_proof
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.adopted_ids import ids_in_kong, with_ids_in_kong, with_our_ids
from gitops_mvd.kong.entities import Entity
from gitops_mvd.kong.shared import store as shared
from gitops_mvd.kong.shared.precedence import Precedence
from gitops_mvd.kong.start_file import BootFile
from gitops_mvd.kong.transport import Certificates

__all__ = ["Certificates", "Entity", "Kong"]

# Seconds until a node uses a new document, or other targets: a real Kong was seen to take 0.02 and 0.04.
TAKEN_UP = 0.1
DATABASE = "this Kong has a database, and starts from no file"
SLACK = 0.5  # seconds that another node may be late in asking the database


class Kong:
    """The Kong whose Admin API is at `admin_url`; `proxy_url` is where it serves, for proving routes.

    With a `precedence` it is shared with other hosts.
    Whether it has a database is asked once, and again after it did not answer: it may come back as another.  May be
    used by several threads at once.
    """

    def __init__(
        self,
        admin_url: str,
        proxy_url: str | None = None,
        *,
        token: str = "",
        token_header: str = "Kong-Admin-Token",
        certificates: Certificates | None = None,
        boot_file: Path | None = None,
        precedence: Precedence | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Raises Unavailable for certificates that can not be read."""
        self._admin = Admin(admin_url, token, timeout, token_header=token_header, certificates=certificates)
        self._proxy_url = proxy_url
        self._certificates = certificates
        self._written: dict[str, float] = {}  # `part_of` an entity -> when we last wrote it, by the monotonic clock
        self._document = document.Store(self._admin, self._written)
        self._shared = shared.Store(self._admin, self._written, precedence) if precedence else None
        self._database = self._shared or database.Store(self._admin, self._written)
        self.shared = precedence.shared if precedence else ""  # the name under which hosts share it
        self._boot = BootFile(boot_file, self._document) if boot_file else None
        self._mode = ""
        self._routes_taken_up = self._everywhere = TAKEN_UP
        self._seen: tuple[Sequence[Entity], Sequence[Entity]] = ((), ())  # at the last look: by Kong's ids, and by ours
        self._ids: dict[str, str] | None = None  # our id -> the one in Kong, of all that was adopted

    def look(self, host: str) -> Sequence[Entity]:
        """Every entity of ours, each behind those that it refers to.  Raises Unavailable."""
        with self._asked() as store:
            found = store.look(host)
        if found is not self._seen[0] or self._ids is None:
            self._ids = ids_in_kong(found)
            self._seen = found, with_our_ids(found, self._ids)
        return self._seen[1]

    def all(self) -> list[Entity]:
        """Everything that this Kong has, whosever it is, by the ids that it has there.  Raises Unavailable."""
        with self._asked() as store:
            return store.all()

    def schema(self, path: str) -> Json:
        """Kong's own schema of a type of entity or, as `plugins/NAME`, of a plugin; empty where it knows none."""
        return self._admin.get(f"/schemas/{path}") or {}

    def adopt(self, host: str, entities: Sequence[Entity]) -> None:
        """Change these fields of what is there, by Kong's ids, and nothing else.  Raises as `bring` does."""
        with self._asked() as store:
            store.adopt(host, entities)
        with suppress(MvdError):
            self.keep_boot_file()

    def bring(self, host: str, is_meant: Callable[[Entity], bool], entities: Sequence[Entity]) -> None:
        """Make those of ours that are meant be exactly `entities`, and touch nothing else.

        All is checked by Kong before the first write.  Raises StepFailed where Kong refuses it or where it clashes with
        what is not ours, Unavailable where Kong does not answer; either may leave a part of it done, and to bring the
        same again does the rest.
        """
        for key, number in Counter((entity.type, entity.id) for entity in entities).items():
            if number > 1:
                twice = next(str(entity) for entity in entities if (entity.type, entity.id) == key)
                raise StepFailed(f"{twice} is declared {number} times", "Kong takes it only once")
        if self._ids is None:
            self.look(host)
        with self._asked() as store:
            store.bring(host, is_meant, [with_ids_in_kong(entity, self._ids or {}) for entity in entities])
        with suppress(MvdError):  # it is told at the end of the pass, and holds up nothing before
            self.keep_boot_file()

    def boot_file_fault(self) -> str:
        """Why a Kong that starts anew would not have what it has now, "" where it would; of the last look or change."""
        if not self._boot:
            return ""
        with self._asked() as store:
            return DATABASE if store is self._database else self._boot.fault()

    def keep_boot_file(self) -> None:
        """Have the file that Kong starts from be what it has, as of the last look or change.

        Raises Unavailable or StepFailed.
        """
        if self._boot and self.boot_file_fault():
            if self._mode != "off":
                raise Unavailable(DATABASE, "take `kong.boot_file` out of the settings")
            self._boot.keep()

    def forget(self, host: str) -> None:
        """Take away the targets of a host that will not come back, as it would by itself, where this Kong is shared."""
        self.bring(host, lambda entity: True, [])

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        """Does the gateway lead to this service?  One try; the health, why not, and whether an instance answered.

        Asked through the gateway by a request that matches the first route for which that can be done: plain HTTP, a
        method that changes nothing, no regular expression.  Where there is none (gRPC, TCP, only POST), or without a
        `proxy_url`, healthy only means that Kong's Admin API has the routes.

        After a change, Kong is given the time that its workers take to learn of it: until then another route could have
        answered, or an old target.  A Kong with a database needs seconds for routes, unless it names the service.
        """
        if self._shared:  # then another host may have said what is there
            route = replace(route, payload=self._shared.payload((route.app, route.service)) or route.payload)
        routes = [entity for entity in route.payload if entity.type == "routes"]
        request = route_proof.request_for(entity.fields for entity in routes)
        try:
            if not request or not self._proxy_url:
                answer = route_proof.Answer(*self._has(routes))
            else:
                answer = route_proof.through(
                    self._proxy_url, request, f"mvd.{route.app}.{route.service}", self._certificates
                )
            routes_within = TAKEN_UP if answer.named else self._routes_taken_up
            if answer.health is Health.HEALTHY and (wait := self._until(route, routes_within, TAKEN_UP)) > 0:
                return Health.PROGRESSING, f"the gateway takes up what was changed within {wait:.1f} s", answer.reached
            if self._shared and answer.health is not Health.HEALTHY and self._has(routes)[0] is not Health.HEALTHY:
                return Health.UNKNOWN, "another host has taken the routes away meanwhile", False
        except MvdError as error:
            return Health.UNKNOWN, str(error), False
        return answer.health, answer.why, answer.reached

    def everywhere(self, route: Resource) -> tuple[Health, str]:
        """Have all nodes of a Kong with a database had the time to poll what was changed?  No API tells of them."""
        if (wait := self._until(route, self._everywhere, self._everywhere)) > 0:
            return Health.PROGRESSING, f"other nodes of the gateway take up what was changed within {wait:.1f} s"
        return Health.HEALTHY, ""

    def _has(self, routes: Sequence[Entity]) -> tuple[Health, str]:
        missing = [str(route) for route in routes if not self._admin.get(f"/routes/{self._in_kong(route.id)}")]
        return (Health.PROGRESSING, f"Kong has no {missing[0]}") if missing else (Health.HEALTHY, "")

    def _in_kong(self, id: str) -> str:
        return (self._ids or {}).get(id, id)

    def _until(self, route: Resource, routes_within: float, others_within: float) -> float:
        """Seconds until what was written of a route is taken up."""
        ends = [
            self._written.get(self._in_kong(entity.id), -math.inf)
            + (routes_within if entity.type == "routes" else others_within)
            for entity in route.payload
        ]
        return max(ends, default=-math.inf) - time.monotonic()

    @contextmanager
    def _asked(self) -> Iterator[document.Store | database.Store]:
        try:
            if not self._mode:
                self._ask_mode()
            if self._mode == "off" and self._shared:
                raise Unavailable(
                    "a Kong without a database can have only one host", "`kong.shared` needs one with a database"
                )
            yield self._document if self._mode == "off" else self._database
        except Unavailable:
            self._mode = ""
            raise

    def _ask_mode(self) -> None:
        try:
            configuration = self._admin.get("/")["configuration"]
            self._mode = str(configuration["database"])
            workers = float(configuration.get("worker_state_update_frequency", 5))
            nodes = float(configuration.get("db_update_frequency", 5)) + float(
                configuration.get("db_update_propagation", 0)
            )
            self._routes_taken_up, self._everywhere = (
                (TAKEN_UP, TAKEN_UP) if self._mode == "off" else (workers, nodes + SLACK)
            )
        except (KeyError, TypeError, ValueError, StepFailed) as error:
            raise Unavailable(f"what answers at {self._admin.url} is not Kong's Admin API") from error
