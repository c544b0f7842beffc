"""A Kong as a user of decK, or of `curl`, has it: seeded into the stand-in gateway, and looked at as a whole."""

from __future__ import annotations

import datetime
import functools
import json
import uuid
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.contract.gateway import Gateway
from tests.contract.pems import JWK

PATHS = {
    "ca_certificates": "ca_certificates",
    "certificates": "certificates",
    "snis": "snis",
    "vaults": "vaults",
    "key_sets": "key-sets",
    "keys": "keys",
    "consumers": "consumers",
    "keyauth_credentials": "key-auths",
    "basicauth_credentials": "basic-auths",
    "hmacauth_credentials": "hmac-auths",
    "jwt_secrets": "jwts",
    "oauth2_credentials": "oauth2",
    "acls": "acls",
    "upstreams": "upstreams",
    "services": "services",
    "routes": "routes",
    "plugins": "plugins",
}
SECRETS = ("key-of-mobile", "hmac-of-mobile", "jwt-of-mobile", "oauth2-of-mobile", "log-password", "Basic bG9n")

Document = dict[str, list[dict[str, Any]]]


@functools.cache
def pair(name: str) -> tuple[str, str]:
    """A certificate and its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2026, 1, 1))
        .not_valid_after(datetime.datetime(2036, 1, 1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


def id_of(name: str) -> str:
    """An id that is none of ours, and the same each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def ref(name: str) -> dict[str, str]:
    return {"id": id_of(name)}


def entity(name: str, /, **fields: Any) -> dict[str, Any]:
    return {"id": id_of(name), "tags": ["deck", "team-a"], **fields}


def a_kong(port: int = 9) -> Document:
    """Plugins at every scope, consumers with every credential, certificates, services near and far."""
    cert, key = pair("example.org")
    return {
        "ca_certificates": [entity("ca", cert=pair("ca")[0])],
        "certificates": [entity("cert", cert=cert, key=key)],
        "snis": [entity("sni", name="example.org", certificate=ref("cert"))],
        "vaults": [entity("vault", name="env", prefix="my-env", description="from the environment")],
        "key_sets": [entity("set", name="issuers")],
        "keys": [entity("jwk", name="first", kid="k1", set=ref("set"), jwk=JWK)],
        "upstreams": [entity("search", name="search.internal", slots=100, algorithm="least-connections")],
        "targets": [
            entity("search1", target="10.0.0.1:9200", weight=100, upstream=ref("search")),
            entity("search2", target="10.0.0.2:9200", weight=50, upstream=ref("search"), tags=None),
        ],
        "consumers": [
            entity("mobile", username="mobile-app", custom_id="0x10"),
            entity("ussd", username="ussd", tags=None),
            entity("numbered", custom_id="1e3"),
        ],
        "keyauth_credentials": [
            entity("key1", key="key-of-mobile-1", consumer=ref("mobile")),
            entity("key2", key="key-of-mobile-2", consumer=ref("mobile")),
        ],
        "basicauth_credentials": [
            entity("basic", username="mobile-login", password="basic-of-mobile", consumer=ref("mobile"))
        ],
        "hmacauth_credentials": [
            entity("hmac", username="mobile-hmac", secret="hmac-of-mobile", consumer=ref("mobile"))
        ],
        "jwt_secrets": [entity("jwt", key="mobile-issuer", secret="jwt-of-mobile", consumer=ref("mobile"))],
        "oauth2_credentials": [
            entity(
                "oauth2",
                name="mobile",
                client_id="mobile-id",
                client_secret="oauth2-of-mobile",
                redirect_uris=["https://example.org/cb"],
                consumer=ref("mobile"),
            )
        ],
        "acls": [entity("acl", group="patients", consumer=ref("mobile"))],
        "services": [
            entity("legacy", name="legacy", host="127.0.0.1", port=port, path="/v1", read_timeout=5000),
            entity("far", name="far", host="api.example.org", protocol="https", port=443, retries=0, tags=None),
            entity("nameless", host="10.0.0.9", port=8080),
            entity("near", name="near", host="search.internal"),
        ],
        "routes": [
            entity(
                "legacy-route",
                name="legacy-main",
                service=ref("legacy"),
                paths=["/legacy", "~/r/\\d+$"],
                methods=["GET", "POST"],
                strip_path=False,
                headers={"x-version": ["2", "12:30"]},
            ),
            entity("plain-route", name="plain", service=ref("legacy"), paths=["/plain"]),
            entity("answering", name="answering", paths=["/gone"]),
            entity("nameless-route", service=ref("nameless"), hosts=["a.example.org", "*.b.example.org"]),
        ],
        "plugins": [
            entity("p-global", name="correlation-id", config={"header_name": "X-Request-ID", "generator": "uuid"}),
            entity(
                "p-log",
                name="http-log",
                config={"http_endpoint": "http://log:log-password@127.0.0.1:1/", "method": "PUT"},
            ),
            entity("p-answer", name="request-termination", route=ref("answering"), config={"status_code": 410}),
            entity("p-service", name="key-auth", service=ref("far"), config={"anonymous": id_of("ussd")}),
            entity(
                "p-route",
                name="request-transformer",
                route=ref("plain-route"),
                config={"add": {"headers": ["Authorization:Basic bG9n", "X-Plain:1"]}},
                enabled=False,
            ),
            entity(
                "p-consumer",
                name="rate-limiting",
                consumer=ref("mobile"),
                config={"minute": 70, "policy": "local"},
                instance_name="slow-mobile",
            ),
            entity(
                "p-both",
                name="rate-limiting",
                consumer=ref("ussd"),
                route=ref("plain-route"),
                config={"hour": 100, "policy": "local"},
                protocols=["http", "https"],
            ),
        ],
    }


UPSTREAMS: Document = {
    "upstreams": [entity("upstream", name="chat.internal", slots=100, algorithm="least-connections")],
    "targets": [
        entity("target1", target="127.0.0.1:7799", weight=100, upstream=ref("upstream")),
        entity("target2", target="10.0.0.2:7799", weight=50, upstream=ref("upstream")),
    ],
    "services": [entity("chat", name="chat", host="chat.internal", port=80, read_timeout=90000)],
    "routes": [entity("chat-route", name="chat-all", service=ref("chat"), paths=["/chat"])],
    "plugins": [entity("p-chat", name="key-auth", service=ref("chat"))],
}


def seed(gateway: Gateway, document: Mapping[str, list[dict[str, Any]]]) -> None:
    """Put all of it into an empty gateway, as `deck sync` would."""
    if gateway.mode == "off":
        flat = {type: [_flat(fields) for fields in rows] for type, rows in document.items()}
        gateway.ask("POST", "/config", json={"config": json.dumps({"_format_version": "3.0", **flat})})
        return
    for type in (*PATHS, "targets"):
        for fields in document.get(type, ()):
            path = f"/upstreams/{fields['upstream']['id']}/targets" if type == "targets" else f"/{PATHS[type]}"
            gateway.ask("POST", path, json=fields)


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value["id"] if isinstance(value, dict) and value.keys() == {"id"} else value
        for key, value in fields.items()
    }


def everything(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """Type and id -> entity, as it is shown to the byte but for the time of the last change, which a post sets anew."""
    found = {}
    for type, path in PATHS.items():
        for fields in gateway.all(path):
            found[f"{type} {fields['id']}"] = fields
    for fields in gateway.all("upstreams"):
        for target in gateway.all(f"upstreams/{fields['id']}/targets"):
            found[f"targets {target['id']}"] = target
    return {name: {k: v for k, v in fields.items() if k != "updated_at"} for name, fields in found.items()}
