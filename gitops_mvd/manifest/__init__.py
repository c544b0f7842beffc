"""The config repository → apps: Compose files, our two extension keys, `fleet.yaml` and `kong/`.  Pure.

    fleet = read_fleet(tree)
    apps, broken = load(tree, fleet.host("web1"))

Strict: what is not supported is a Problem with file, line, key and what to do; nothing is silently dropped.
May import `config`, `core`, and from `probes` what each is.  Must not know what runs on a host.
"""

from gitops_mvd.manifest.fleet import Fleet, read_fleet
from gitops_mvd.manifest.load import Cache, load
from gitops_mvd.manifest.review import Review, review, validate

__all__ = ["Cache", "Fleet", "Review", "load", "read_fleet", "review", "validate"]
