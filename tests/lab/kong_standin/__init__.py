"""The lab's stand-in for Kong: it speaks the Admin API of Kong 3.9.1 and really proxies, and is not Kong.

It is held to recorded exchanges with a real one (tests/contract). Nothing outside the lab imports it. What a change
means is decided by two tables, `entities.yaml` and `plugins.yaml`; the modules, from the inside out:

    faults       what Kong answers when it refuses
    checks       single values: hosts, paths, tags, ...
    schema       the tables: defaults filled in, violations found
    store        the entities, kept on disk
    declarative  the one document of DB-less mode
    admin        the Admin API
    routing      which route a request takes, which target it goes to
    workers      what each worker knows, and its connections to targets
    policies     the plugins that are enforced
    access_log   the log entry of each finished request
    proxy        the data path
    server       both listeners
"""

from tests.lab.kong_standin.server import StandIn

__all__ = ["StandIn"]
