"""The plugin by which Kong tells a host of the requests of a service, while a share of them is judged.  Pure."""

from __future__ import annotations

from gitops_mvd.core.route import Counted
from gitops_mvd.kong.entities import Fields, tag_value, tags_of

PLUGIN = "udp-log"
TAG = "counts-requests"
SHARE_TAG = "share"  # `share:5 300.0`: the percentage that is judged, and for how many seconds


def counting_tags(counted: Counted) -> list[str]:
    """Its tags beside those that all entities of a host have."""
    return [TAG, f"{SHARE_TAG}:{counted['share']} {counted['lasts']}"]


def is_counting(fields: Fields) -> bool:
    """Is that the plugin by which Kong tells of requests, of whichever process?"""
    return fields.get("name") == PLUGIN and TAG in tags_of(fields)


def counted_by(fields: Fields) -> Counted:
    """The share for which that plugin tells of requests; empty if it does not say, as that of an older version."""
    share, _, lasts = tag_value(tags_of(fields), SHARE_TAG).partition(" ")
    try:
        return Counted(share=int(share), lasts=float(lasts))
    except ValueError:
        return Counted()
