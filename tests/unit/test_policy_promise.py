"""What a policy forbids, no commit can allow: every key that a repository can have, against every level of a policy.

The keys are found in the tables that files are read by.  Each is judged here: it is harmless whatever it says, it
leads to keys of another table, or it has hostile values, which go the whole way from the text of a file to the refusal.
A new key that nobody has judged fails the first test.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from gitops_mvd import manifest
from gitops_mvd.config.tables import Ignored, Key, Unsupported
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import HostFacts
from gitops_mvd.core.policy import LEVELS, Policy, enforce
from gitops_mvd.manifest import load
from tests.unit.memory_tree import MemoryTree

Values = dict[str, Any]
CONFINED = ("baseline", "restricted")
HARDENED: Values = {
    "image": "myrepo.io/chat:1",
    "user": "1000:1000",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
X_KONG: Values = {"port": 80, "paths": ["/chat"]}


@dataclass(frozen=True)
class Attack:
    """What a repository has beside a hardened service, and what the refusal says.

    `service` are keys of that service, `top` sections of its file, `beside` further files, and `kong` a file of Kong.
    """

    told: str
    service: Values = field(default_factory=dict)
    top: Values = field(default_factory=dict)
    kong: Values = field(default_factory=dict)
    levels: tuple[str, ...] = CONFINED
    policy: Values = field(default_factory=dict)
    beside: Values = field(default_factory=dict)

    def files(self) -> dict[str, str]:
        service = {key: value for key, value in {**HARDENED, **self.service}.items() if value is not None}
        files = {"apps/chat/compose.yaml": yaml.safe_dump({"services": {"web": service}, **self.top})}
        files |= {f"apps/chat/{name}": yaml.safe_dump(content) for name, content in self.beside.items()}
        return {**files, "kong/a.yaml": yaml.safe_dump(self.kong)} if self.kong else files


def refusals(policy: Policy, files: Mapping[str, str]) -> list[str]:
    """What a host with that policy says to a repository, from the text of its files."""
    apps, broken = load(MemoryTree(files), HostFacts("h1"))
    told = [str(problem) for problems in broken.values() for problem in problems]
    for app in apps:
        try:
            enforce(policy, app)
        except StepFailed as error:
            told.append(str(error))
    return told


def mounted(source: str, **more: Any) -> Values:
    return {"volumes": [{"type": "bind", "source": source, "target": "/x", **more}]}


def on(options: Values | None, **endpoint: Any) -> tuple[Values, Values]:
    """A service on a network, and that network."""
    return {"networks": {"n": endpoint or None}}, {"networks": {"n": options}}


def with_volume(told: str, levels: tuple[str, ...] = CONFINED, **options: Any) -> Attack:
    return Attack(told, {"volumes": ["v:/v"]}, {"volumes": {"v": options}}, levels=levels)


def with_network(told: str, levels: tuple[str, ...] = CONFINED, **options: Any) -> Attack:
    return Attack(told, *on(options), levels=levels)


def at_endpoint(told: str, options: Values | None = None, **endpoint: Any) -> Attack:
    return Attack(told, *on(options, **endpoint), policy={"shared": ("bank",)})


def in_kong(told: str, **entities: Any) -> Attack:
    return Attack(told, kong={"_format_version": "3.0", **entities}, levels=LEVELS)


def in_x_kong(told: str, **more: Any) -> Attack:
    return Attack(
        told, {"x-kong": {"port": 80, **(more if "routes" in more else {"paths": ["/chat"], **more})}}, levels=LEVELS
    )


def run(told: str, levels: tuple[str, ...] = CONFINED, **keys: Any) -> Attack:
    return Attack(told, keys, levels=levels)


CODE = [{"name": "pre-function", "config": {"access": ["os.exit()"]}}]
ROUTE = [{"name": "r", "paths": ["/r"]}]
STOLEN = "{file://bank.key}"
SECRET = "the secret bank.key, which is not the app's own"
HOSTILE = {"services": {"base": {"image": "myrepo.io/chat:1", "privileged": True}}}
IMAGES = (
    *("chat:1", "docker.io/library/chat", "evil.io/chat:1", f"sha256:{'0' * 64}", "0" * 64, "deadbeef"),
    *("localhost/chat", "localhost:5000/chat", "MYREPO.IO.evil.io/chat", "myrepo.io:444/chat"),
)
KEPT_FOR_THE_DAEMON = (
    *("/", "/run", "/run/docker.sock", "/var/run/docker.sock", "//run//docker.sock", "/run/docker.sock/"),
    *("/etc", "/etc/gitops-mvd", "/etc/gitops-mvd/secrets", "/var/lib/gitops-mvd", "/var/lib/docker/volumes"),
)


def bind(device: str, **more: str) -> Values:
    return {"driver_opts": {"type": "none", "o": "bind", "device": device, **more}}


ATTACKS: dict[str, list[Attack]] = {
    "compose.RUN.user": [run("root", ("restricted",), user=it) for it in (None, "0", "root", "0:0", "00", "app", "+0")],
    "compose.RUN.mac_address": [run("mac_address", mac_address="02:42:ac:11:00:02", network_mode="bridge")],
    "compose.RUN.ipc": [run("ipc: ", ipc=it) for it in ("host", "container:bank")],
    "compose.RUN.pid": [run("pid: ", pid=it) for it in ("host", "container:kong")],
    "compose.RUN.uts": [run("uts: host", uts="host")],
    "compose.RUN.userns_mode": [run("userns_mode: host", userns_mode="host")],
    "compose.RUN.cgroup": [run("cgroup: host", cgroup="host")],
    "compose.RUN.cgroup_parent": [run("cgroup_parent", cgroup_parent="/system.slice")],
    "compose.RUN.runtime": [run("runtime", runtime="nvidia")],
    "compose.RUN.network_mode": [run("network_mode: ", network_mode=it) for it in ("host", "container:bank")],
    "compose.RUN.privileged": [run("privileged", privileged=True)],
    "compose.RUN.oom_kill_disable": [run("oom_kill_disable", oom_kill_disable=True)],
    "compose.RUN.oom_score_adj": [run("oom_score_adj", oom_score_adj=-1)],
    "compose.RUN.cpu_rt_runtime": [run("cpu_rt_runtime", cpu_rt_runtime=1000)],
    "compose.RUN.cpu_rt_period": [run("cpu_rt_period", cpu_rt_period=1000)],
    "compose.RUN.cap_add": [
        *(run("cap_add: ", cap_add=[it]) for it in ("ALL", "SYS_ADMIN", "cap_sys_admin", "NET_ADMIN", "CAP_BPF")),
        run("cap_add: CHOWN", ("restricted",), cap_add=["CHOWN"]),
    ],
    "compose.RUN.cap_drop": [run("cap_drop", ("restricted",), cap_drop=it) for it in (None, [], ["CHOWN"])],
    "compose.RUN.security_opt": [
        *(
            run(f"security_opt: {it}", security_opt=["no-new-privileges:true", it])
            for it in ("seccomp=unconfined", "seccomp:unconfined", "seccomp={}", "apparmor=unconfined", "label=disable")
        ),
        run("security_opt: ", security_opt=["no-new-privileges:true", "label=type:spc_t"]),
        run("security_opt: ", security_opt=["no-new-privileges:true", "systempaths=unconfined"]),
        run("security_opt: ", security_opt=["no-new-privileges:true", "no-new-privileges:false"]),
        run("gaining privileges", ("restricted",), security_opt=None),
    ],
    "compose.RUN.device_cgroup_rules": [run("device_cgroup_rules", device_cgroup_rules=["b 8:0 rwm"])],
    "compose.RUN.devices": [run("devices", devices=["/dev/sda"]), run("devices", devices=["nvidia.com/gpu=0"])],
    "compose.RUN.annotations": [run("annotations", annotations={"run.oci.hooks": "x"})],
    "compose.RUN.sysctls": [run("sysctls: ", sysctls={it: "1"}) for it in ("kernel.msgmax", "net.ipv4.ip_forward")],
    "compose.RUN.storage_opt": [run("storage_opt: ", storage_opt={"dm.mountopt": "suid"})],
    "compose.RUN.ulimits": [run("ulimits: ", ulimits={it: 99}) for it in ("rtprio", "nice")],
    "compose.RUN.gpus": [run("gpus", gpus="all")],
    "logs.LOGGING.driver": [run("logging: driver ", logging={"driver": it}) for it in ("awslogs", "my/plugin")],
    "logs.LOGGING.options": [
        run("logging: syslog-address", logging={"driver": "syslog", "options": {"syslog-address": it}})
        for it in (
            "unix:///run/x",
            "unixgram:///dev/log",
            "tcp://127.0.0.1:8001",
            "udp://localhost:53",
            "tcp://[::1]:9",
        )
    ]
    + [
        run("syslog-tls", logging={"driver": "syslog", "options": {"syslog-tls-ca-cert": "/etc/shadow"}}),
        run("logging: fluentd-", logging={"driver": "fluentd", "options": {"fluentd-address": "unix:///run/x"}}),
        run("logging: fluentd-", logging={"driver": "fluentd", "options": {"fluentd-address": "127.1:8001"}}),
    ],
    "compose.SERVICE.image": [
        Attack("images from", {"image": it}, levels=LEVELS, policy={"registries": ("myrepo.io",)}) for it in IMAGES
    ],
    "compose.SERVICE.environment": [Attack(SECRET, {"environment": {"A": STOLEN}}, levels=LEVELS)],
    "compose.SERVICE.ports": [
        *(
            run("port 443 of the host", ports=[it])
            for it in ("443:80", "0.0.0.0:443:80", "10.0.0.1:443:80", "[::]:443:80")
        ),
        run("port 440-450 of the host", ports=["440-450:80"]),
        run("Kong's Admin API", ports=["127.0.0.1:8001:80"]),
    ],
    "compose.SERVICE.volumes": [
        *(
            run(f"mounting {it}", volumes=[f"{it}:/x"])
            for it in ("/", "/etc", "/proc", "/var/run/docker.sock", "//etc/")
        ),
        run("host's policy forbids web: mounting /root", volumes=["/root:/x:ro"]),
    ],
    "compose.SERVICE.extends": [
        Attack("privileged", {"extends": {"service": "base", "file": "base.yaml"}}, beside={"base.yaml": HOSTILE})
    ],
    "compose.SERVICE.env_file": [Attack(SECRET, {"env_file": ["env"]}, beside={"env": {"A": STOLEN}}, levels=LEVELS)],
    "composition.TOP.include": [
        Attack("base: privileged", top={"include": ["base.yaml"]}, beside={"base.yaml": HOSTILE})
    ],
    "deploy.RESERVATIONS.devices": [
        run("gpus", deploy={"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}})
    ],
    "storage.MOUNT.source": [
        Attack("mounting ", mounted(it), levels=LEVELS, policy={"mounts": ("/", "/run", "/var", "/etc")})
        for it in KEPT_FOR_THE_DAEMON
    ]
    + [
        Attack("process of the host", mounted(it), levels=LEVELS, policy={"mounts": ("/proc",)})
        for it in ("/proc/1/root", "/proc/self/cwd", "/proc/thread-self/root/etc", "/proc//1/root/etc/")
    ]
    + [Attack("mounting ", mounted(it), policy={"mounts": ("/srv",)}) for it in ("/etc", "/srvother", "/sr")],
    "storage.BIND.propagation": [
        Attack("propagation", mounted("/srv/x", bind={"propagation": it}), policy={"mounts": ("/srv",)})
        for it in ("shared", "rshared")
    ],
    "schemas.VOLUME.name": [with_volume("is not the app's own", LEVELS, name="bank_data")],
    "schemas.VOLUME.external": [
        with_volume("is not the app's own", LEVELS, name="bank_data", external=True),
        with_volume("is not the app's own", LEVELS, name="chat_eu_data", external=True),
    ],
    "schemas.VOLUME.driver": [with_volume("driver ", driver="nfs-plugin"), with_volume("driver ", driver="Local")],
    "schemas.VOLUME.driver_opts": [
        *(
            with_volume("driver_opts", driver_opts=it)
            for it in (
                {"type": "overlay", "device": "overlay", "o": "lowerdir=/opt"},
                {"type": "proc", "device": "proc"},
                {"type": "sysfs", "device": "sysfs"},
                {"type": "cgroup2", "device": "none"},
                {"type": "devtmpfs", "device": "devtmpfs"},
                {"type": "ext4", "device": "/dev/sda1"},
                {"type": "nfs", "device": ":/", "o": "addr=127.0.0.1"},
                {"type": "NONE", "o": "bind", "device": "/opt"},
                {"type": "none", "o": " bind", "device": "/opt"},
                {"type": "none", "o": "bind, ro", "device": "/opt"},
                {"type": "none", "o": "BIND", "device": "/opt"},
                {"type": "none", "o": "bind,shared", "device": "/opt"},
                {"Type": "none", "O": "bind", "Device": "/opt"},
                {"o": "remount"},
            )
        ),
        *(with_volume("mounting ", **bind(it)) for it in ("/opt", "/srv/../etc", "//etc", "etc", "/opt/./", "")),
        with_volume("mounting /etc", LEVELS, driver_opts={"type": "overlay", "o": "lowerdir=/etc:/opt"}),
        with_volume("mounting /etc/gitops-mvd", LEVELS, **bind("/etc/gitops-mvd/token")),
        with_volume("mounting ", LEVELS, **bind("/var/run/docker.sock")),
    ],
    "network.NETWORK.name": [with_network("is not the app's own", LEVELS, name="bank")],
    "network._EXTERNAL.name": [with_network("is not the app's own", LEVELS, external={"name": "bank"})],
    "network.NETWORK.external": [
        with_network("is not the app's own", LEVELS, name="mvd-chat-eu-default-44136fa3", external=True)
    ],
    "network.NETWORK.driver": [with_network("driver ", driver=it) for it in ("macvlan", "ipvlan", "host", "overlay")],
    "network.NETWORK.driver_opts": [
        with_network(it, driver_opts={it: "docker0"})
        for it in ("com.docker.network.bridge.name", "com.docker.network.bridge.host_binding_ipv4", "parent")
    ],
    "network._IPAM.driver": [with_network("ipam driver", ipam={"driver": "plugin"})],
    "network._IPAM.options": [with_network("ipam options", ipam={"options": {"a": "b"}})],
    "network._POOL.subnet": [
        with_network("subnet ", ipam={"config": [{"subnet": it}]})
        for it in ("10.0.0.0/8", "1.1.1.0/24", "2001:db8::/64")
    ],
    "network.ATTACHMENT.driver_opts": [
        at_endpoint(
            "network ", driver_opts={"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.forwarding=1"}
        )
    ],
    "network.ATTACHMENT.mac_address": [
        at_endpoint("where others are", {"name": "bank", "external": True}, mac_address="02:42:ac:11:00:02")
    ],
    "network.ATTACHMENT.link_local_ips": [
        at_endpoint("where others are", {"name": "bank", "external": True}, link_local_ips=["169.254.1.1"])
    ],
    "kong_entities.KONG_PLUGIN.name": [
        *(in_kong(f"the plugin {it}", plugins=[{"name": it}]) for it in ("pre-function", "post-function", "file-log")),
        in_kong("the plugin my-plugin", plugins=[{"name": "my-plugin"}]),
        in_x_kong("web: the plugin pre-function", plugins=CODE),
    ],
    "kong_entities.KONG_PLUGIN.config": [
        in_kong("Admin API", plugins=[{"name": "http-log", "config": {"http_endpoint": "http://127.1:8001/services"}}]),
        in_kong("http-log to", plugins=[{"name": "http-log", "config": {"http_endpoint": "http://169.254.169.254/"}}]),
        in_kong("udp-log to", plugins=[{"name": "udp-log", "config": {"host": "localhost", "port": 53}}]),
        in_kong("Admin API", plugins=[{"name": "tcp-log", "config": {"host": "unix:/run/kong.sock", "port": 1}}]),
        in_kong("Admin API", plugins=[{"name": "tcp-log", "config": {"host": 127.1, "port": "8001"}}]),
        in_kong("Admin API", plugins=[{"name": "mine", "config": {"redis": {"nodes": ["[::1]:8001"]}}}]),
        in_kong("Admin API", plugins=[{"name": "mine", "config": {"redis_host": "localhost", "redis_port": 8444}}]),
        in_kong(
            "the plugin tcp-log with the program",
            plugins=[{"name": "tcp-log", "config": {"host": "x.org", "custom_fields_by_lua": {"a": "return 1"}}}],
        ),
        in_kong(SECRET, plugins=[{"name": "http-log", "config": {"headers": {"a": STOLEN}}}]),
        in_x_kong(
            "the secret vault://env/pg-password",
            plugins=[{"name": "request-transformer", "config": {"add": {"headers": ["a:{vault://env/pg-password}"]}}}],
        ),
    ],
    "kong_entities.GATEWAY_SERVICE.host": [
        *(
            in_kong("Admin API", services=[{"name": "s", "host": it, "port": 8001, "routes": ROUTE}])
            for it in (
                "127.0.0.1",
                "localhost",
                "LOCALHOST.",
                "127.1",
                "0x7f000001",
                "2130706433",
                "0.0.0.0",
                "0",
                "[::1]",
            )
        ),
        in_kong("to 127.0.0.1:9", services=[{"name": "s", "host": "127.0.0.1", "port": 9, "routes": ROUTE}]),
        in_kong("to kong:8001", services=[{"name": "s", "host": "kong", "port": 8001, "routes": ROUTE}]),
        in_kong("to 169.254.169.254", services=[{"name": "s", "host": "169.254.169.254", "routes": ROUTE}]),
    ],
    "kong_entities.GATEWAY_SERVICE.url": [
        in_kong("Admin API", services=[{"name": "s", "url": it, "routes": ROUTE}])
        for it in (
            "http://[::ffff:127.0.0.1]:8001/",
            "https://127.0.0.1:8444",
            "http://a.localhost:8001",
            "tcp://[::]:8001",
        )
    ],
    "kong_entities.KONG_TARGET.target": [
        in_kong("Admin API", upstreams=[{"name": "u", "targets": [{"target": it}]}])
        for it in ("127.0.0.1:8001", "localhost:8444", "[::1]:8001", "0x7f.1:8001", "[64:ff9b::7f00:1]:8001")
    ]
    + [
        in_kong("Admin API", upstreams=[{"name": "u"}], targets=[{"upstream": "u", "target": "0.0.0.0:8001"}]),
        in_kong("the target ", upstreams=[{"name": "u", "targets": [{"target": "localhost:9"}]}]),
    ],
    "kong_entities.VAULT.prefix": [in_kong("the vault pg", vaults=[{"name": "env", "prefix": "pg"}])],
    **{
        f"kong_entities.{key}": [in_kong(SECRET, **{kind: [entity]})]
        for key, kind, entity in (
            ("CERTIFICATE.key", "certificates", {"cert": "x", "key": STOLEN}),
            ("CERTIFICATE.cert", "certificates", {"cert": STOLEN, "key": "x"}),
            ("CERTIFICATE.key_alt", "certificates", {"cert": "x", "key": "x", "key_alt": STOLEN}),
            ("CERTIFICATE.cert_alt", "certificates", {"cert": "x", "key": "x", "cert_alt": STOLEN}),
            ("CA_CERTIFICATE.cert", "ca_certificates", {"cert": STOLEN}),
            ("KEY.jwk", "keys", {"kid": "k", "jwk": STOLEN}),
            ("KEY.pem", "keys", {"kid": "k", "pem": {"private_key": STOLEN}}),
            ("VAULT.config", "vaults", {"name": "own", "prefix": "v", "config": {"token": STOLEN}}),
            *(
                (f"CONSUMER_CREDENTIALS.{kind}", "consumers", {"username": "joe", kind: [credential]})
                for kind, credential in (
                    ("keyauth_credentials", {"key": STOLEN}),
                    ("basicauth_credentials", {"username": "joe", "password": STOLEN}),
                    ("hmacauth_credentials", {"username": "joe", "secret": STOLEN}),
                    ("jwt_secrets", {"key": "k", "secret": STOLEN}),
                    ("oauth2_credentials", {"name": "joe", "client_secret": STOLEN}),
                )
            ),
        )
    },
    "kong_fields._ACTIVE.headers": [
        in_kong(SECRET, upstreams=[{"name": "u", "healthchecks": {"active": {"headers": {"a": [STOLEN]}}}}])
    ],
    **{
        f"project.SECRET.{key}": [
            Attack(SECRET, {"secrets": [name]}, {"secrets": {name: {"external": True, **more}}}, levels=LEVELS)
        ]
        for key, name, more in (("external", "bank.key", {}), ("name", "key", {"name": "bank.key"}))
    },
    "extensions.KONG_ROUTE.headers": [in_x_kong(SECRET, routes=[{"paths": ["/a"], "headers": {"a": [STOLEN]}}])],
    "extensions.X_KONG.headers": [in_x_kong(SECRET, headers={"a": [STOLEN]})],
}

# They hold keys of another table, which are judged there.
NESTED = {
    "compose.RUN": "logging healthcheck blkio_config",
    "compose.SERVICE": "configs secrets networks depends_on deploy x-mvd x-kong",
    "compose.BLKIO": "weight_device device_read_bps device_write_bps device_read_iops device_write_iops",
    "composition.TOP": "services networks volumes configs secrets x-mvd",
    "deploy.DEPLOY": "update_config placement resources restart_policy",
    "deploy.RESOURCES": "limits reservations",
    "extensions.X_MVD": "health canary",
    "extensions.X_KONG": "routes plugins service upstream",
    "extensions.KONG_ROUTE": "plugins sources destinations",
    "fleet.FLEET": "hosts defaults apps rollout lists",
    "fleet.APP_KEYS": "rollout",
    "waves.ROLLOUT_KEYS": "prometheus http windows silent",
    "kong_entities.CONSUMER": "plugins",
    "kong_entities.GATEWAY_SERVICE": "routes plugins",
    "kong_entities._NESTED_ROUTE": "plugins",
    "kong_entities.GATEWAY_UPSTREAM": "targets",
    "kong_entities.KONG_UPSTREAM": "healthchecks",
    "kong_entities.KEY_SET": "keys",
    "kong_entities.CERTIFICATE": "snis",
    "kong_entities.GATEWAY": "consumers plugins services routes upstreams targets certificates snis ca_certificates "
    "key_sets keys vaults keyauth_credentials basicauth_credentials hmacauth_credentials jwt_secrets "
    "oauth2_credentials acls",
    "kong_fields._ACTIVE": "healthy unhealthy",
    "kong_fields._PASSIVE": "healthy unhealthy",
    "kong_fields._HEALTHCHECKS": "active passive",
    "network.NETWORK": "ipam",
    "network._IPAM": "config",
    "storage.MOUNT": "bind volume tmpfs",
}

# They become attacks only by what is made of them, which is judged there: devices, ports, what another file holds.
ELSEWHERE = {
    "compose._DEVICE": "source target permissions",  # compose.RUN.devices
    "compose.EXTENDS": "service file",  # compose.SERVICE.extends
    "compose.SERVICE": "label_file",  # compose.SERVICE.labels
    "composition.INCLUDE": "path env_file",  # composition.TOP.include
    "deploy.DEVICE": "capabilities driver count device_ids options",  # compose.RUN.gpus
    "fleet.HOST_KEYS": "logging",  # logs.LOGGING
    "network.PORT_KEYS": "target published host_ip protocol",  # compose.SERVICE.ports
    "storage.MOUNT": "type",
    "waves.PROMETHEUS_KEYS": "url",  # tests/contract/test_gate_questions.py
    "waves.HTTP_KEYS": "url",  # the same
}

# They change nothing outside of what an app has for itself, whatever they say.
HARMLESS = {
    "compose.RUN": "working_dir hostname domainname platform stop_signal stop_grace_period cpuset restart init "
    "read_only tty stdin_open mem_limit memswap_limit mem_reservation mem_swappiness shm_size cpus cpu_shares "
    "cpu_quota cpu_period pids_limit command entrypoint group_add dns dns_search dns_opt expose extra_hosts",
    "compose.SERVICE": "labels tmpfs scale profiles pull_policy container_name links",
    "compose._BOTH": "soft hard",
    "compose.HEALTHCHECK": "test interval timeout start_period start_interval retries disable",
    "compose._BYTE_RATE": "path rate",
    "compose._IO_RATE": "path rate",
    "compose._WEIGHT": "path weight",
    "compose.BLKIO": "weight",
    "compose.DEPENDENCY": "condition required restart",
    "compose.ENV_FILE": "path required format",
    "composition.TOP": "name",
    "deploy.UPDATE": "order failure_action parallelism delay monitor",
    "deploy.LIMITS": "cpus memory pids",
    "deploy.RESERVATIONS": "memory cpus generic_resources",
    "deploy.PLACEMENT": "constraints preferences max_replicas_per_node",
    "lists.LIST": "constraints each",
    "deploy.RESTART_POLICY": "condition max_attempts",
    "deploy.DEPLOY": "mode replicas labels",
    "extensions.KONG_ROUTE": "name protocols hosts paths methods snis expression priority regex_priority "
    "https_redirect_status_code strip_path path_handling preserve_host request_buffering response_buffering tags",
    "extensions.KONG_SERVICE": "path retries connect_timeout write_timeout read_timeout client_certificate tls_verify "
    "tls_verify_depth ca_certificates enabled",
    "extensions.X_MVD": "schedule",
    "canary.CANARY": "steps for judge",
    "canary.JUDGE": "errors latency min_requests",
    "extensions.OF_APP": "suspend",
    "extensions.SUSPEND": "why stop",
    "extensions.X_KONG": "port protocol paths hosts methods strip_path preserve_host auth",
    "fleet.HOST_KEYS": "labels variables drain swarm node_labels nodes",
    "fleet.APP_KEYS": "unset",
    "waves.ROLLOUT_KEYS": "waves bake approval wave_statuses",
    "waves.PROMETHEUS_KEYS": "query",
    "waves.WINDOWS_KEYS": "allow deny",
    "waves.SILENT_KEYS": "after counts_as",
    "health._COMMON": "within start_period interval successes",
    "health.HEALTH_KEYS": "completed docker exec grpc heartbeat http kafka log systemd tcp timeout port every status "
    "body header",
    "kong_entities.KONG_PLUGIN": "instance_name enabled protocols consumer",
    "kong_entities.KONG_UPSTREAM": "algorithm hash_on hash_on_header hash_on_cookie hash_on_cookie_path "
    "hash_on_query_arg hash_on_uri_capture hash_fallback hash_fallback_header hash_fallback_query_arg "
    "hash_fallback_uri_capture slots host_header client_certificate use_srv_name",
    "kong_entities.GATEWAY_PLUGIN": "service route",
    "kong_entities.CONSUMER_CREDENTIALS": "acls",
    "kong_entities.CONSUMER": "username custom_id",
    "kong_entities.GATEWAY_SERVICE": "name port protocol",
    "kong_entities.GATEWAY_ROUTE": "name service",
    "kong_entities.KONG_TARGET": "weight",
    "kong_entities.GATEWAY_UPSTREAM": "name",
    "kong_entities.KEY": "name kid",
    "kong_entities.KEY_SET": "name",
    "kong_entities.SNI": "name",
    "kong_entities._OF_EVERY": "id",
    "kong_entities.VAULT": "name description",
    "kong_entities._KEY_BY_ITSELF": "set",
    "kong_entities.GATEWAY": "_format_version _transform",
    "kong_fields._BY_ID": "id",
    "kong_fields._ADDRESS": "ip port",
    "kong_fields._HEALTHY": "http_statuses successes",
    "kong_fields._UNHEALTHY": "http_statuses tcp_failures timeouts http_failures",
    "kong_fields._INTERVAL": "interval",
    "kong_fields._TYPE": "type",
    "kong_fields._ACTIVE": "timeout concurrency http_path https_sni https_verify_certificate",
    "kong_fields._HEALTHCHECKS": "threshold",
    "network.ATTACHMENT": "aliases ipv4_address ipv6_address priority gw_priority use_service_name_alias",
    "network._POOL": "ip_range gateway aux_addresses",
    "network.NETWORK": "internal attachable enable_ipv4 enable_ipv6 labels",
    "project.CONFIG": "file environment content",
    "project.SECRET": "file environment",
    "schemas.VOLUME": "labels",
    "storage.BIND": "selinux recursive create_host_path",
    "storage.VOLUME_OPTIONS": "nocopy subpath",
    "storage.TMPFS_OPTIONS": "size mode",
    "storage.MOUNT": "target read_only",
    "storage.GRANT": "source target uid gid mode",
}


def keys() -> Iterator[str]:
    """Every key that a repository can have, as module, table and key; one of several tables at the first of them."""
    seen: set[int] = set()
    for found in pkgutil.iter_modules(manifest.__path__):
        module = importlib.import_module(f"{manifest.__name__}.{found.name}")
        for name, table in vars(module).items():
            is_table = isinstance(table, dict) and table
            if is_table and all(isinstance(key, Key | Ignored | Unsupported) for key in table.values()):
                new = [(word, key) for word, key in table.items() if isinstance(key, Key) and id(key) not in seen]
                seen.update(id(key) for _, key in new)
                yield from (f"{found.name}.{name}.{word}" for word, _ in new)


def listed(tables: Mapping[str, str]) -> list[str]:
    return [f"{table}.{word}" for table, words in tables.items() for word in words.split()]


def test_every_key_of_the_repository_is_judged_once() -> None:
    judged = [*ATTACKS, *listed(NESTED), *listed(ELSEWHERE), *listed(HARMLESS)]
    assert sorted(judged) == sorted(keys())


CASES = [
    pytest.param(attack, level, id=f"{key}-{number}-{level}")
    for key, attacks in ATTACKS.items()
    for number, attack in enumerate(attacks)
    for level in attack.levels
]


@pytest.mark.parametrize(("attack", "level"), CASES)
def test_what_a_policy_forbids_no_commit_can_allow(attack: Attack, level: str) -> None:
    told = refusals(Policy(level=level, **attack.policy), attack.files())
    assert [why for why in told if attack.told in why], told


@pytest.mark.parametrize("level", LEVELS)
def test_a_hardened_app_is_allowed_at_every_level(level: str) -> None:
    more = {
        "cap_add": ["NET_BIND_SERVICE"],
        "mem_limit": "64m",
        "pids_limit": 100,
        "ulimits": {"nofile": 1024},
        "tmpfs": ["/tmp:size=16m,noexec"],
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "volumes": ["data:/data", "./own:/own"],
        "ports": ["127.0.0.1:9000:80", "80"],
        "environment": {"DB": "{file://chat.db}", "KEY": "{file://chat_key}"},
        "networks": ["back"],
        "logging": {"driver": "syslog", "options": {"syslog-address": "tcp://logs.example.org:514"}},
        "x-kong": {**X_KONG, "plugins": [{"name": "key-auth"}, {"name": "rate-limiting", "config": {"minute": 5}}]},
    }
    top = {"volumes": {"data": None}, "networks": {"back": {"ipam": {"config": [{"subnet": "172.30.1.0/24"}]}}}}
    kong = {"consumers": [{"username": "joe", "keyauth_credentials": [{"key": "{file://gateway.joe}"}]}]}
    assert refusals(Policy(level=level), Attack("", more, top, kong).files()) == []


def test_what_is_not_hardened_is_allowed_below_restricted() -> None:
    plain = Attack("", {key: None for key in HARDENED if key != "image"})
    assert refusals(Policy(), plain.files()) == []
    assert len(refusals(Policy(level="restricted"), plain.files())) == 1


@pytest.mark.parametrize("key", [key for key in ATTACKS if key.startswith("compose.RUN.")])
def test_privileged_lets_containers_be_anything(key: str) -> None:
    told = [why for attack in ATTACKS[key] for why in refusals(Policy(level="privileged"), attack.files())]
    assert told == []
