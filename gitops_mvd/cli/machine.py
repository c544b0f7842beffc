"""The checks of `mvd doctor` that are about this machine: its programs, files, clock, network and disks."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gitops_mvd.cli.finding import Finding
from gitops_mvd.cli.output import counted, how_long
from gitops_mvd.config.settings import Settings, secret_files
from gitops_mvd.core.addresses import split_url
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.text import without_login
from gitops_mvd.forges.api.address import Address

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired
    from gitops_mvd.docker.types import EngineInfo

DAEMON_JSON = Path("/etc/docker/daemon.json")
IPV6 = Path("/proc/net/if_inet6")
SBIN = "/usr/sbin:/sbin"  # where programs of the system are, also for who has only /usr/bin in PATH
ENOUGH_DISK_BYTES, LEAST_DISK_BYTES = 2 << 30, 256 << 20
ENOUGH_FILES = 1000  # that can still be made
PATIENCE_SECONDS = 5.0
SKEW_SECONDS = 60.0  # that a forge takes from a clock
DAY_SECONDS = 86400.0
MOST_SECRETS = 1000


def programs(wired: Wired) -> Iterator[Finding]:
    """What is not installed, with the command that gets it on Debian and Ubuntu."""
    needed = {"docker": "docker.io", "git": "git", "prlimit": "util-linux"}
    if wired.settings.credentials.ssh_key:
        needed["ssh"] = "openssh-client"
    told = engine_settings()
    if told.get("iptables", True) and told.get("firewall-backend") != "nftables":
        needed["iptables"] = "iptables"  # whose commands write rules of nftables, where a server has only these
    lacking = {program: package for program, package in needed.items() if not _is_here(program)}
    for program, package in lacking.items():
        yield Finding("programs", "fail", f"{program} is not installed", f"apt-get install {package}")
    if not lacking:
        yield Finding("programs", "ok", ", ".join(needed))


def network(wired: Wired) -> Iterator[Finding]:
    """Who lays the rules by which ports are published, which addresses there are, and what goes through a proxy."""
    info = wired.engine.info()
    told = engine_settings()
    if not told.get("iptables", True):
        message = 'Docker lays no rules ("iptables": false): published ports are those of its userland-proxy alone'
        hint = f'Leave "userland-proxy" on in {DAEMON_JSON}; containers reach the internet by rules of your own'
        yield Finding("firewall", "warn", message, hint)
    elif backend := info.get("FirewallBackend"):
        yield Finding("firewall", "ok", f"Docker's rules are those of {backend['Driver']}")
    if not (IPV6.exists() and IPV6.read_text().strip()):
        yield Finding("ipv6", "ok", "none on this server: ports are published on IPv4 alone")
    if user := wired.engine.container_root()[0]:
        message = f"on: root of a container is user {user} of this server, to whom mounted paths of it must be open"
        yield Finding("userns-remap", "ok", message)
    yield from _web_proxy(info)


def _web_proxy(info: EngineInfo) -> Iterator[Finding]:
    own = urllib.request.getproxies()
    if not (proxy := own.get("https") or own.get("http")):
        return
    shown = without_login(proxy if "://" in proxy else f"http://{proxy}")
    but = f", but not {own['no']}" if own.get("no") else ""
    yield Finding("web proxy", "ok", f"Git and the forge are asked through {shown}{but}")
    if not (info.get("HttpsProxy") or info.get("HttpProxy")):
        hint = f'Set "proxies" in {DAEMON_JSON}, and restart Docker'
        yield Finding("web proxy", "warn", "Docker has none, so it asks registries directly", hint)


def secrets(wired: Wired) -> Iterator[Finding]:
    """Files with secrets that others than root and their group may read."""
    named = secret_files(wired.settings)
    with suppress(OSError), os.scandir(wired.settings.secrets) as entries:
        named |= {entry.path for entry in itertools.islice(entries, MOST_SECRETS)}
    files = sorted(file for file in named if os.path.isfile(file))
    for file in filter(_is_open, files):
        yield Finding("secrets", "warn", f"{file} can be read by every user of this server", f"chmod o= {file}")
    if files and not any(map(_is_open, files)):
        yield Finding("secrets", "ok", f"{counted(len(files), 'file')}, closed to other users")


def clock(wired: Wired) -> Iterator[Finding]:
    """How far this clock is from that of the forge, with which certificates begin and end."""
    from gitops_mvd.net.clock import ahead_of

    for url in _web_servers(wired.settings):
        ahead = ahead_of(url)
        if ahead is None:
            continue
        off, host = abs(ahead), urlsplit(url).hostname
        if off <= SKEW_SECONDS:
            yield Finding("clock", "ok", f"as that of {host}")
            return
        message = f"{how_long(off)} {'ahead of' if ahead > 0 else 'behind'} that of {host}"
        if off >= DAY_SECONDS:
            message += ": certificates seem to have expired, or not to be valid yet"
        hint = "Set it: timedatectl set-ntp true, with systemd-timesyncd or chrony installed"
        yield Finding("clock", "fail" if off >= DAY_SECONDS else "warn", message, hint)
        return


def gateway_port(wired: Wired) -> Iterator[Finding]:
    """Whether anything listens at Kong's proxy, where requests come in."""
    if not (kong := wired.settings.kong):
        return
    host, port = split_url(kong.proxy)
    try:
        socket.create_connection((host.strip("[]"), port), PATIENCE_SECONDS).close()
    except OSError as error:
        why = (error.strerror or "timed out").lower()
        hint = "Compare `kong.proxy` in the settings with KONG_PROXY_LISTEN"
        yield Finding("kong proxy", "fail", f"nothing answers at {kong.proxy}: {why}", hint)
    else:
        yield Finding("kong proxy", "ok", f"listens at {kong.proxy}")


def disks(wired: Wired) -> Iterator[Finding]:
    """The room on every disk that gitops-mvd or Docker writes to, or is installed on."""
    settings = wired.settings
    folders = [settings.state, settings.files, settings.folders, sys.prefix]
    with suppress(Unavailable):  # the check of Docker says why
        if wired.engine.is_local:
            folders.append(wired.engine.info().get("DockerRootDir", ""))
    disks: dict[int, list[str]] = {}
    for folder in filter(os.path.isdir, folders):
        disks.setdefault(os.stat(folder).st_dev, []).append(folder)
    for places in disks.values():
        room = os.statvfs(places[0])
        yield from room_at(", ".join(places), room.f_bavail * room.f_frsize, room.f_favail if room.f_files else None)


def room_at(where: str, free: int, files: int | None) -> Iterator[Finding]:
    """Whether that many free bytes are enough, and so many files that can be made; None for a disk without a number."""
    verdict = "ok" if free >= ENOUGH_DISK_BYTES else "warn" if free >= LEAST_DISK_BYTES else "fail"
    hint = "What has it: docker system df, and du -xh --max-depth 2 /" if verdict != "ok" else ""
    yield Finding("disk", verdict, f"{free / (1 << 30):.1f} GiB free at {where}", hint)
    if files is not None and files < ENOUGH_FILES:
        yield Finding(
            "disk", "fail", f"only {counted(files, 'more file')} can be made at {where}", "What has them: df -i"
        )


def engine_settings() -> dict[str, Any]:
    """What the settings of Docker's daemon say, as far as they can be read."""
    try:
        told = json.loads(DAEMON_JSON.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _web_servers(settings: Settings) -> Iterator[str]:
    if settings.forge and settings.forge.base_url:
        yield settings.forge.base_url
    address = Address.of(settings.repository)
    if address and address.scheme in ("http", "https"):
        yield address.base_url()


def _is_here(program: str) -> bool:
    return bool(shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}"))


def _is_open(file: str) -> bool:
    """May any user of this machine read that file?"""
    path = Path(file).resolve()
    return bool(path.stat().st_mode & 0o004) and all(folder.stat().st_mode & 0o001 for folder in path.parents)
