"""One Kong, with or without a database: what it holds that is managed, how that is changed, and where routes lead."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.core.model import Health, Resource
from gitops_mvd.kong import database, document, route_proof
from gitops_mvd.kong.admin import MAX_PAGE_SIZE, Admin, idle_connections, worker_questions
from gitops_mvd.kong.adopted_ids import ids_in_kong, with_ids_in_kong, with_managed_ids
from gitops_mvd.kong.counted import is_counting
from gitops_mvd.kong.counting import Counting, Watch
from gitops_mvd.kong.declare import service_name
from gitops_mvd.kong.entities import Entity, Fields, Owners, entities_of
from gitops_mvd.kong.pace import costs
from gitops_mvd.kong.route_proof import RouteAnswer
from gitops_mvd.kong.shared.precedence import Precedence
from gitops_mvd.kong.shared.store import Store as SharedStore
from gitops_mvd.kong.start_file import StartFile
from gitops_mvd.kong.transport import Certificates, is_loopback

__all__ = ["Certificates", "Entity", "Kong"]

# Until a node uses a new document, or other targets: a real Kong was seen to take 0.02 s and 0.04 s.
PROPAGATION_DELAY_SECONDS = 0.1
NODE_POLL_MARGIN_SECONDS = 0.5  # that another node may be late in polling the database
IDLE_SAMPLES, IDLE_PAUSE_SECONDS = 50, 0.01  # of one question whether Kong has no request open
HAS_DATABASE = "this Kong has a database, and starts from no file"


class Kong:
    """The Kong whose Admin API is at `admin_url`; `proxy_url` is where it serves, for proving routes.

    At `address` it reaches this host.  With a `precedence` it is shared with other hosts.
    Whether it has a database is asked once, and again after it did not answer: it may come back as another.  May be
    used by several threads at once.
    """

    def __init__(
        self,
        admin_url: str,
        proxy_url: str = "",
        *,
        token: str = "",
        token_header: str = "Kong-Admin-Token",
        certificates: Certificates | None = None,
        boot_file: Path | None = None,
        address: str = "127.0.0.1",
        precedence: Precedence | None = None,
        timeout: float = 5.0,
        page_size: int = MAX_PAGE_SIZE,
    ) -> None:
        """Raises Unavailable for certificates that cannot be read."""
        self._admin = Admin(
            admin_url, token, timeout, token_header=token_header, certificates=certificates, page_size=page_size
        )
        self._proxy_url = proxy_url
        self.counting = Counting(address)
        self._proxy_certificates = route_proof.certificates_for(proxy_url, certificates)
        self._written: dict[str, float] = {}  # `holder_id` of an entity -> when it was written, by the monotonic clock
        self._document = document.Store(self._admin, self._written)
        self._shared = SharedStore(self._admin, self._written, precedence) if precedence else None
        self._database = self._shared or database.Store(self._admin, self._written)
        self._host = precedence.host if precedence else ""
        self.shared = precedence.shared if precedence else ""  # the name under which hosts share it
        self._start_file = StartFile(boot_file, self._document) if boot_file else None
        self._idle_connections = 0  # that it writes to if no request is open, and it is asked; 0 if that is unknown
        self._questions = 0  # that reach each of its workers, if they may differ; 0 if that is unknown
        self._mode = ""  # Kong's word: `off` or the name of a database; "" until it is asked
        self._routes_delay = self._nodes_delay = PROPAGATION_DELAY_SECONDS
        self._found: tuple[Sequence[Entity], Sequence[Entity]] = (
            (),
            (),
        )  # as observed last: by ids in Kong, and managed
        self._ids: dict[str, str] | None = None  # managed id -> id in Kong, of all adopted entities

    # ---- what it holds -----------------------------------------------------------------------------------------------

    def observe(self, host: str) -> Sequence[Entity]:
        """Every managed entity, each behind those that it refers to.  Raises Unavailable."""
        with self._store() as store:
            found = store.observe(host)
        if found is not self._found[0] or self._ids is None:
            self._ids = ids_in_kong(found)
            self._found = found, with_managed_ids(found, self._ids)
        return self._found[1]

    def all(self) -> list[Entity]:
        """All entities in this Kong, managed or not, by their ids in Kong.  Raises Unavailable."""
        with self._store() as store:
            return store.all()

    def schema(self, path: str) -> Fields:
        """Kong's own schema of a type of entity or, as `plugins/NAME`, of a plugin; empty if it has none."""
        return self._admin.get(f"/schemas/{path}") or {}

    def adopt(self, host: str, entities: Sequence[Entity]) -> None:
        """Change these fields of entities in Kong, by their ids there, and nothing else.  Raises as `apply` does."""
        with self._store() as store:
            store.adopt(host, entities)
        self._try_to_write_start_file()

    def apply(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Make the managed entities of these owners exactly `entities`, and touch nothing else.

        Kong checks all of them before the first write.  Raises StepFailed if Kong rejects one, or if one clashes with
        an entity that is not managed, and Unavailable if Kong does not answer.  Either may leave a part of it done; to
        apply the same again does the rest.
        """
        entities = self._by_ids_in_kong(host, entities)
        with self._store() as store:
            store.apply(host, owners, entities)
        self._try_to_write_start_file()

    def prepare(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Raise what `apply` would, as far as that can be known, and change nothing."""
        entities = self._by_ids_in_kong(host, entities)
        with self._store() as store:
            store.prepare(host, owners, entities)

    def _by_ids_in_kong(self, host: str, entities: Sequence[Entity]) -> list[Entity]:
        for key, number in Counter(entity.key for entity in entities).items():
            if number > 1:
                twice = next(str(entity) for entity in entities if entity.key == key)
                raise StepFailed(f"{twice} is declared {number} times", "Kong takes it only once")
        if self._ids is None:
            self.observe(host)
        return [with_ids_in_kong(entity, self._ids or {}) for entity in entities]

    def costs(self) -> list[str]:
        """What Kong's own settings cost a deploy, a sentence each.  Raises Unavailable."""
        node = self._read_mode()
        return list(costs(node, counts_requests=bool(self._idle_connections)))

    def require_writable(self) -> None:
        """Raise Unavailable if Kong would deny a change; it is asked whether one is possible, and changes nothing."""
        self._admin.check(Entity("services", {"name": "mvd.doctor", "host": "mvd.doctor"}))

    def remove_host(self, host: str) -> None:
        """Delete the targets of a host that will not come back, as it would itself, if this Kong is shared."""
        self.apply(host, None, [])

    # ---- its declarative start file ----------------------------------------------------------------------------------

    def start_file_fault(self) -> str:
        """Why Kong would start with something else than it had at the last `observe` or change; "" if it would not."""
        if not self._start_file:
            return ""
        with self._store() as store:
            return HAS_DATABASE if store is self._database else self._start_file.fault()

    def write_start_file(self) -> None:
        """Make Kong's start file what Kong had at the last `observe` or change.  Raises Unavailable or StepFailed."""
        if self._start_file and self.start_file_fault():
            if self._mode != "off":
                raise Unavailable(HAS_DATABASE, "remove `kong.boot_file` from the settings")
            self._start_file.write()

    def _try_to_write_start_file(self) -> None:
        with suppress(MvdError):  # the end of the pass reports it; until then it holds up nothing
            self.write_start_file()

    # ---- route proof -------------------------------------------------------------------------------------------------

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        """Does Kong lead to this service?  One try: the health, why not, and whether an instance answered.

        A request through Kong that matches the first route for which there is one: by plain HTTP, a method that changes
        nothing, no regular expression.  If there is none (gRPC, TCP, only POST), or without a `proxy_url`, healthy only
        means that Kong's Admin API has the routes.

        After a change, Kong is given the time that its workers take to use it: until then another route could have
        answered, or an old target.  A Kong with a database needs seconds for routes, unless each of its workers names
        the service.
        """
        if self._shared:  # then another host may have applied what there is
            payload = self._shared.shared_entities((route.app, route.service)) or route.payload
            route = replace(route, payload=payload)
        routes = [entity for entity in entities_of(route) if entity.type == "routes"]
        request = route_proof.request_for(entity.fields for entity in routes)
        try:
            answer = self._send(route, request) if request and self._proxy_url else self._has(routes)
            routes_delay = PROPAGATION_DELAY_SECONDS if answer.is_named and self._questions else self._routes_delay
            wait = self._seconds_until_used(route, routes_delay, PROPAGATION_DELAY_SECONDS)
            if answer.health is Health.HEALTHY and wait > 0:
                return Health.PROGRESSING, f"Kong uses the change within {wait:.1f} s", answer.is_from_instance
            if self._shared and answer.health is not Health.HEALTHY and self._has(routes).health is not Health.HEALTHY:
                return Health.UNKNOWN, "another host has deleted the routes in the meantime", False
        except MvdError as error:
            return Health.UNKNOWN, str(error), False
        return answer.health, answer.why, answer.is_from_instance

    def _send(self, route: Resource, request: route_proof.Request) -> RouteAnswer:
        """Kong's answer to a request, or the first bad one of so many as reach each worker, while they may differ."""
        service = service_name((route.app, route.service))
        for _ in range(self._questions or 1):
            answer = route_proof.send(self._proxy_url, request, service, self._proxy_certificates)
            is_settled = self._seconds_until_used(route, self._routes_delay, PROPAGATION_DELAY_SECONDS) <= 0
            if is_settled or answer.health is not Health.HEALTHY or not answer.is_named:
                break
        return answer

    def everywhere(self, route: Resource) -> tuple[Health, str]:
        """Have all nodes of a Kong with a database had the time to poll the last change?  No API lists the nodes."""
        if (wait := self._seconds_until_used(route, self._nodes_delay, self._nodes_delay)) > 0:
            return Health.PROGRESSING, f"other nodes of Kong use the change within {wait:.1f} s"
        return Health.HEALTHY, ""

    def watch(self, route: Resource, addresses: Iterable[str]) -> Watch:
        """What Kong tells from now on of the requests that go to these addresses, for a route that is `counted`."""
        return self.counting.watch(service_name((route.app, route.service)), addresses)

    def is_counted(self, route: Resource) -> bool:
        """Does Kong tell this process of the requests of the route's service?  Raises Unavailable."""
        name = service_name((route.app, route.service))
        plugins = self._admin.entries(f"/services/{name}/plugins")
        return any(is_counting(it) and self.counting.is_told(Entity("plugins", it), name) for it in plugins)

    def judged_elsewhere(self, route: Resource) -> str:
        """Which other host judges a version of the route's service; "" if none does.  Raises Unavailable."""
        if not self._shared:
            return ""
        turn = self._shared.turn_of_other(self._host, (route.app, route.service))
        return str(turn) if turn else ""

    def was_idle(self) -> bool:
        """Was there a moment, since this was asked, without an open request in Kong?  False if that is unknown.

        It is known of a Kong on this host only, as other nodes are not counted, and only if that carries nothing but
        HTTP.  Kong counts the request that asks, and one for each of its workers, by which these hear of changes.
        """
        if not self._idle_connections:
            return False
        for pause in (*[IDLE_PAUSE_SECONDS] * (IDLE_SAMPLES - 1), 0.0):
            try:
                server = (self._admin.get("/status") or {}).get("server")
            except MvdError:
                return False
            if isinstance(server, Mapping) and server.get("connections_writing") == self._idle_connections:
                return True
            time.sleep(pause)
        return False

    def _has(self, routes: Sequence[Entity]) -> RouteAnswer:
        missing = [str(route) for route in routes if not self._admin.get(f"/routes/{self._id_in_kong(route.id)}")]
        return RouteAnswer(Health.PROGRESSING, f"Kong has no {missing[0]}") if missing else RouteAnswer(Health.HEALTHY)

    def _id_in_kong(self, id: str) -> str:
        return (self._ids or {}).get(id, id)

    def _seconds_until_used(self, route: Resource, routes_delay: float, others_delay: float) -> float:
        """Seconds until Kong uses what was written of a route last; negative once it does."""
        ends = [
            self._written.get(self._id_in_kong(entity.id), -math.inf)
            + (routes_delay if entity.type == "routes" else others_delay)
            for entity in entities_of(route)
        ]
        return max(ends, default=-math.inf) - time.monotonic()

    # ---- with or without a database ----------------------------------------------------------------------------------

    @contextmanager
    def _store(self) -> Iterator[document.Store | database.Store]:
        """What this Kong is read and changed by.  Raises Unavailable."""
        try:
            if not self._mode:
                self._read_mode()
            if self._mode == "off" and self._shared:
                raise Unavailable(
                    "a Kong without a database can have only one host", "`kong.shared` needs one with a database"
                )
            yield self._document if self._mode == "off" else self._database
        except Unavailable:
            self._mode = ""
            raise

    def _read_mode(self) -> Fields:
        """Learn of Kong's own settings from its answer to `GET /`, and return that.  Raises Unavailable."""
        try:
            node = self._admin.get("/") or {}
            configuration = node["configuration"]
            if not isinstance(configuration, dict):
                raise TypeError
            self._mode = str(configuration["database"])
            workers = float(str(configuration.get("worker_state_update_frequency", 5)))
            nodes = float(str(configuration.get("db_update_frequency", 5)))
            nodes += float(str(configuration.get("db_update_propagation", 0))) + NODE_POLL_MARGIN_SECONDS
        except (KeyError, TypeError, ValueError, StepFailed) as error:
            raise Unavailable(f"what answers at {self._admin.url} is not Kong's Admin API") from error
        if self._mode == "off":
            workers = nodes = PROPAGATION_DELAY_SECONDS
        self._routes_delay, self._nodes_delay = workers, nodes
        self._questions = 1 if self._mode == "off" else worker_questions(node)
        is_alone = is_loopback(self._admin.url) and not self._shared
        self._idle_connections = idle_connections(node) if is_alone else 0
        return node
