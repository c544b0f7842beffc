from __future__ import annotations

from typing import Any

import pytest

from gitops_mvd.core.compose import Run
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Service
from gitops_mvd.core.policy import CHECKED, FORBIDDEN, HARMLESS, PRIVATE, Policy, Server, enforce
from gitops_mvd.core.policy.names import forbidden_secrets, owner_of, registry_of

STRICT = Policy(mounts=("/srv",), registries=("myrepo.io",), ports=((8000, 8999),))


def app(run: dict[str, Any], image: str = "myrepo.io/chat:1", **more: Any) -> App:
    return App("chat", (Service("web", image, run=run),), **more)


def bind(source: str) -> dict[str, Any]:
    return {"volumes": [{"type": "bind", "source": source, "target": "/x", "read_only": False}]}


def published(port: str, address: str) -> dict[str, Any]:
    return {"ports": [{"target": 80, "published": port, "host_ip": address, "protocol": "tcp"}]}


def kong(**entities: Any) -> App:
    return App("gateway", kong_entities=entities)


@pytest.mark.parametrize("key", sorted(Run.__annotations__))
def test_every_key_of_a_container_is_harmless_checked_or_forbidden(key: str) -> None:
    assert [key in HARMLESS, key in FORBIDDEN, key in CHECKED].count(True) == 1


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ({"privileged": True}, "web: privileged"),
        ({"cap_add": ["CHOWN", "SYS_ADMIN", "cap_bpf"]}, "web: cap_add: SYS_ADMIN, cap_bpf"),
        ({"security_opt": ["no-new-privileges", "seccomp=unconfined"]}, "web: security_opt: seccomp=unconfined"),
        ({"security_opt": ["no-new-privileges:false"]}, "web: security_opt: no-new-privileges:false"),
        ({"pid": "container:kong"}, "web: pid: container:kong"),
        ({"network_mode": "container:other-web-1"}, "web: network_mode: container:other-web-1"),
        ({"network_mode": "their-network"}, "web: network_mode: their-network"),
        ({"gpus": [{"count": -1}]}, "web: gpus"),
        ({"annotations": {"run.oci.hooks": "x"}}, "web: annotations"),
        ({"oom_score_adj": -1000}, "web: oom_score_adj: -1000"),
        ({"logging": {"driver": "syslog", "options": {"syslog-address": "unixgram:///run/x"}}}, "web: logging"),
        ({"a_key_of_tomorrow": "x"}, "web: a_key_of_tomorrow, which it does not know"),
        ({"networks": {"mvd-other-default-1": {}}}, "web: network mvd-other-default-1, which is not the app's own"),
        (published("443", ""), "web: port 443 of the host"),
        (published("443", "0.0.0.0"), "web: port 443 of the host"),
        (published("8000-9000", ""), "web: port 8000-9000 of the host"),
        (bind("/srv/../etc"), "web: mounting /srv/../etc"),
        ({"network_mode": "host"}, "web: network_mode: host"),
        ({"pid": "host"}, "web: pid: host"),
        (bind("/etc"), "web: mounting /etc"),
        (bind("/srvother"), "web: mounting /srvother"),
        (bind("/var/run/docker.sock"), "web: mounting /var/run/docker.sock"),
    ],
)
def test_what_reaches_beyond_the_container_is_refused(run: dict[str, Any], told: str) -> None:
    with pytest.raises(StepFailed) as caught:
        enforce(STRICT, app(run))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "run",
    [
        {},
        bind("/srv/data"),
        bind("./data"),
        {"network_mode": "none"},
        {"network_mode": "service:db"},
        {"cap_drop": ["ALL"], "read_only": True, "security_opt": ["no-new-privileges:true"], "user": "1000"},
        {"cap_add": ["NET_BIND_SERVICE", "CAP_CHOWN"]},
        {"oom_score_adj": 500},
        {"privileged": False, "devices": []},
        {"networks": {"mvd-chat-default-1": {}}},
        published("8443", ""),
        published("443", "127.0.0.1"),
        published("443", "::1"),
        published("", ""),
    ],
)
def test_what_stays_inside_is_let_through(run: dict[str, Any]) -> None:
    enforce(STRICT, app(run))


def test_a_host_folder_behind_a_volume_is_a_host_folder() -> None:
    options = {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}}
    with pytest.raises(StepFailed, match="volume chat_data: mounting /etc"):
        enforce(STRICT, app({}, volumes={"chat_data": options}))


@pytest.mark.parametrize(
    "options",
    [
        {"type": "overlay", "device": "overlay", "o": "lowerdir=/etc:/opt"},
        {"type": "proc", "device": "proc"},
        {"type": "cgroup", "device": "cgroup", "o": "memory"},
        {"type": "devtmpfs", "device": "devtmpfs"},
        {"type": "ext4", "device": "/srv/disk"},
        {"type": "overlay", "device": "/srv/x", "o": "bind,lowerdir=/etc"},
        {"type": "none", "device": "/srv/../etc", "o": "bind"},
        {"type": "none", "device": "/srv/x"},
        {"type": "none", "device": "/srv/x", "o": "bind", "Device": "/opt"},
        {"type": "none", "device": "/srv/x", "o": "bind,size=1"},
        {"o": "bind"},
    ],
)
def test_a_volume_of_the_local_driver_is_no_file_system_of_the_host(options: dict[str, str]) -> None:
    with pytest.raises(StepFailed, match="volume chat_data: "):
        enforce(STRICT, app({}, volumes={"chat_data": {"driver_opts": options}}))


def test_a_volume_has_another_driver_only_if_it_is_named() -> None:
    volumes = {"chat_data": {"driver": "nfs-plugin", "driver_opts": {"share": "x"}}}
    with pytest.raises(StepFailed, match="volume chat_data: driver nfs-plugin"):
        enforce(STRICT, app({}, volumes=volumes))
    enforce(Policy(volume_drivers=("nfs-plugin",)), app({}, volumes=volumes))


@pytest.mark.parametrize("options", [{}, {"external": True}])
def test_names_of_others_are_used_only_if_they_are_shared(options: dict[str, Any]) -> None:
    both = app({}, volumes={"bank_data": options}, networks={"bank": options})
    with pytest.raises(StepFailed, match=r"volume bank_data, which .*; network bank, which is not the app's own"):
        enforce(STRICT, both)
    enforce(Policy(shared=("bank_data", "bank")), both)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"driver": "macvlan", "driver_opts": {"parent": "eth0"}}, "driver macvlan"),
        ({"driver_opts": {"com.docker.network.bridge.name": "docker0"}}, "com.docker.network.bridge.name"),
        ({"ipam": {"driver": "plugin"}}, "ipam driver plugin"),
    ],
)
def test_networks_are_bridges(options: dict[str, Any], told: str) -> None:
    with pytest.raises(StepFailed, match=told):
        enforce(STRICT, app({}, networks={"mvd-chat-a-1": options}))
    enforce(STRICT, app({}, networks={"mvd-chat-a-1": {"driver_opts": {"com.docker.network.driver.mtu": "1400"}}}))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST.", "::1", "[::1]", "0.0.0.0", "::ffff:127.0.0.1", "169.254.1.1"],
)
def test_kong_leads_to_no_address_that_this_host_alone_has(host: str) -> None:
    target = f"[{host.strip('[]')}]:8001" if ":" in host else f"{host}:8001"
    for entities in (
        {"services": [{"name": "adm", "host": host, "port": 8001}]},
        {"services": [{"name": "adm", "url": f"http://{target}/"}]},
        {"upstreams": [{"name": "adm", "targets": [{"target": target}]}]},
        {"targets": [{"upstream": "adm", "target": target}]},
    ):
        with pytest.raises(StepFailed, match=r"kong: the (service|target) .*adm"):
            enforce(STRICT, kong(**entities))
    enforce(STRICT, kong(services=[{"name": "other", "host": "10.0.0.2", "routes": [{"paths": ["/x"]}]}]))


def test_kong_runs_no_code_of_the_repository() -> None:
    code = [{"name": "pre-function", "config": {"access": ["os.exit()"]}}]
    for entities in ({"plugins": code}, {"services": [{"host": "x", "routes": [{"plugins": code}]}]}):
        with pytest.raises(StepFailed, match="kong: the plugin pre-function"):
            enforce(STRICT, kong(**entities))
    routed: Any = {"port": 80, "protocol": "http", "routes": [], "plugins": code, "service": {}, "upstream": {}}
    with pytest.raises(StepFailed, match="web: the plugin pre-function"):
        enforce(Policy(), App("chat", (Service("web", "x", kong=routed),)))


def test_an_image_by_its_id_is_of_no_registry() -> None:
    with pytest.raises(StepFailed, match="images from this host alone"):
        enforce(STRICT, app({}, f"sha256:{'0' * 64}"))


@pytest.mark.parametrize("image", ["redis:7", "library/redis:7", "evil.io/chat:1"])
def test_images_come_from_the_named_registries_only(image: str) -> None:
    with pytest.raises(StepFailed, match="images from"):
        enforce(STRICT, app({}, image))


def test_a_trusted_app_may_do_anything() -> None:
    enforce(Policy(trusted=("chat",)), app({"privileged": True}))


def test_without_a_policy_everything_is_allowed() -> None:
    enforce(None, app({"privileged": True, **bind("/")}, "evil.io/x:1"))


def test_everything_that_is_forbidden_is_told_at_once() -> None:
    with pytest.raises(StepFailed) as caught:
        enforce(STRICT, app({"privileged": True, "pid": "host", **bind("/etc")}))
    assert str(caught.value).count("web:") == 3


ADVICE = ": call it shop.tls/x, or list it under `secrets`"
LINKS = {"/srv/etc": "/etc", "/srv/state": "/var/lib/gitops-mvd", "/data": "/mnt/disk", "/srv/own": "/mnt/disk/own"}


def real(path: str) -> str:
    """The path past the links of a host; each is one whole folder."""
    for link, to in LINKS.items():
        if f"{path}/".startswith(f"{link}/"):
            return to + path.removeprefix(link)
    return path


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/srv/etc", "web: mounting /srv/etc, which leads to /etc: /etc/gitops-mvd is for the daemon"),
        ("/srv/etc/ssl", "web: mounting /srv/etc/ssl, which leads to /etc/ssl"),
        ("/srv/state/history.db", "/var/lib/gitops-mvd is for the daemon and the engine alone"),
        ("/srv/own", "web: mounting /srv/own, which leads to /mnt/disk/own"),
        ("/srv", "web: mounting /srv: /srv/mvd is for the daemon and the engine alone"),
        ("/srv/mvd/bank/data", "web: mounting /srv/mvd/bank/data: /srv/mvd is for"),
    ],
)
def test_a_link_in_an_allowed_folder_is_what_it_leads_to(source: str, told: str) -> None:
    with pytest.raises(StepFailed) as caught:
        enforce(STRICT, app(bind(source)), Server(private=(*PRIVATE, "/srv/mvd"), real_path=real))
    assert told in str(caught.value)


def test_an_allowed_folder_may_be_a_link_itself() -> None:
    enforce(Policy(mounts=("/data",)), app(bind("/data/x")), Server(real_path=real))
    enforce(Policy(mounts=("/data", "/srv")), app(bind("/srv/own")), Server(real_path=real))


def test_a_driver_that_is_named_may_have_any_option_but_a_path_of_the_daemon() -> None:
    policy = Policy(volume_drivers=("local",))
    enforce(policy, app({}, volumes={"chat_d": {"driver_opts": {"type": "nfs", "device": ":/", "o": "addr=10.0.0.9"}}}))
    for options in ({"o": "lowerdir=/opt:/var/lib/docker"}, {"device": "/run/docker.sock"}):
        with pytest.raises(StepFailed, match="for the daemon and the engine alone"):
            enforce(policy, app({}, volumes={"chat_d": {"driver_opts": options}}))


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("redis", "docker.io"),
        ("library/redis:7", "docker.io"),
        ("index.docker.io/library/redis", "docker.io"),
        ("Docker.IO/library/redis", "docker.io"),
        ("localhost/x", "localhost"),
        ("LOCALHOST/x", "localhost"),
        ("myrepo:5000/x@sha256:" + "0" * 64, "myrepo:5000"),
        ("[::1]:5000/x", "[::1]:5000"),
        ("cafe:1", "docker.io"),
        ("cafe", "this host alone, by their ID"),
    ],
)
def test_the_registry_of_an_image_is_dockers(image: str, registry: str) -> None:
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    ("secret", "owner"),
    [
        ("chat.db_password", "chat"),
        ("chat_db", "chat"),
        ("chat_eu_db", "chat_eu"),
        ("chat_eu.db", "chat_eu"),
        ("tls-key", ""),
        ("vault://env/chat_db", "vault://env/chat"),
    ],
)
def test_a_secret_belongs_to_the_one_app_that_it_is_named_after(secret: str, owner: str) -> None:
    assert owner_of(secret) == owner


def test_secrets_of_others_are_used_only_if_they_are_listed() -> None:
    config = {"a": "{file://tls-key} {vault://env/one} {vault://env/two/x}"}
    entities = {"plugins": [{"name": "session", "config": config}], "vaults": [{"name": "env", "prefix": "mine"}]}
    with pytest.raises(StepFailed) as caught:
        enforce(Policy(), kong(**entities))
    assert [what in str(caught.value) for what in ("tls-key", "env/one", "env/two/x", "vault mine")] == [True] * 4
    enforce(Policy(secrets=("tls-key", "vault://env", "vault://mine")), kong(**entities))
    with pytest.raises(StepFailed, match=r"the vault mine; the secret vault://env/one, which"):
        enforce(Policy(secrets=("tls-key", "vault://env/on", "vault://env/two")), kong(**entities))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("vault:kv/data/chat", True),
        ("vault:kv/data/chat#key", True),
        ("vault:kv/data/chat/db#key", True),
        ("vault:kv/data/chatty#key", False),
        ("vault:kv/data/chat/../bank#key", False),
        ("vault:kv/data/chat/..", False),
        ("other:kv/data/chat", False),
        ("tls", True),
        ("tls/x", False),
    ],
)
def test_what_is_listed_of_a_provider_is_all_below_it(name: str, allowed: bool) -> None:
    policy = Policy(secrets=("vault:kv/data/chat", "tls"))
    assert [*forbidden_secrets(policy, "shop", [name])] == (
        [] if allowed else [f"the secret {name}, which is not the app's own{'' if ':' in name else ADVICE}"]
    )


def test_a_plugin_that_is_listed_may_do_anything_but_ask_the_admin_api() -> None:
    def log(url: str) -> App:
        return kong(plugins=[{"name": "http-log", "config": {"http_endpoint": url}}, {"name": "pre-function"}])

    policy = Policy(plugins=("http-log", "pre-function"))
    enforce(policy, log("http://127.0.0.1:9200/"))
    for allowed in (policy, None, Policy(trusted=("gateway",))):
        with pytest.raises(StepFailed, match="the plugin http-log leads to Kong's Admin API"):
            enforce(allowed, log("http://127.0.0.1:8001/"))


def test_the_admin_api_of_the_settings_is_never_routed_to() -> None:
    server = Server(admin=("kong.lan", 9001), is_own=lambda host: host in ("10.0.0.5", "web1"))
    for host, port in (
        ("kong.lan", 9001),
        ("KONG.lan.", 9001),
        ("10.0.0.5", 8001),
        ("web1", 8444),
        ("127.0.0.1", 8001),
    ):
        with pytest.raises(StepFailed, match="kong: the service s leads to Kong's Admin API"):
            enforce(None, kong(services=[{"name": "s", "host": host, "port": port}]), server)
    for host, port in (("kong.lan", 8000), ("10.0.0.5", 9001), ("10.0.0.6", 8001), ("127.0.0.1", 9001)):
        enforce(None, kong(services=[{"name": "s", "host": host, "port": port}]), server)
    at_home = Server(("127.0.0.1", 9001), server.is_own)
    with pytest.raises(StepFailed, match="Admin API"):
        enforce(None, kong(targets=[{"upstream": "u", "target": "10.0.0.5:9001"}]), at_home)


def test_what_listens_on_an_address_of_the_host_is_not_led_to() -> None:
    server = Server(is_own=lambda host: host == "10.0.0.5")
    with pytest.raises(StepFailed, match=r"kong: the service s to 10\.0\.0\.5:9200"):
        enforce(Policy(), kong(services=[{"name": "s", "host": "10.0.0.5", "port": 9200}]), server)


def test_subnets_and_sysctls_that_are_named_may_be_used() -> None:
    networks = {"mvd-chat-a-1": {"ipam": {"config": [{"subnet": "10.7.1.0/24"}]}}}
    wanted = app({"sysctls": {"net.core.somaxconn": "1024"}}, networks=networks)
    with pytest.raises(StepFailed, match=r"sysctls: net.core.somaxconn; .*subnet 10.7.1.0/24"):
        enforce(Policy(), wanted)
    enforce(Policy(subnets=("10.7.0.0/16",), sysctls=("net.core.somaxconn",)), wanted)


@pytest.mark.parametrize(
    "huge",
    ["9" * 5000, 10**5000, float("inf"), True, None, ["x"], {"a": "b"}],
    ids=["text", "number", "inf", "bool", "none", "list", "mapping"],
)
def test_what_is_no_host_and_no_port_breaks_nothing(huge: Any) -> None:
    config = {"host": huge, "port": huge, "endpoint": f"a:{'9' * 5000}", "url": f"http://a:{'9' * 5000}"}
    plugins = [{"name": "http-log", "config": config}]
    enforce(Policy(), kong(plugins=plugins, services=[{"name": "s", "host": f"a:{'9' * 5000}"}]))
