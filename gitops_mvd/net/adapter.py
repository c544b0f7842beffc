"""How requests uses connections with limits; a module of its own, as requests is loaded only by who asks something."""

from __future__ import annotations

from typing import Any

from requests.adapters import HTTPAdapter

from gitops_mvd.net.http import HttpPool, HttpsPool

POOLS = {"http": HttpPool, "https": HttpsPool}


class Adapter(HTTPAdapter):
    """Mounted in a session, it makes connections over Lines, also to a proxy."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = POOLS
        return manager
