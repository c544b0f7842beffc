"""How Kong is reached: real sockets, real TLS by a private authority, and what is said of bad ones."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Health, Resource, Service
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.client import Certificates, Entity, Kong
from gitops_mvd.kong.route_proof import Request, certificates_for, send
from tests.lab.kong_standin import StandIn

HOST = "web-1"
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates; each is a PEM file and one with its key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        self.certificate = (
            self._build(self.name, self.key.public_key(), DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = self._write(f"{name}.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, *hosts: str, ends: datetime.timedelta = DAY) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        signed = self._build(subject, key.public_key(), ends).add_extension(x509.ExtendedKeyUsage(both), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        signed = signed.add_extension(issuer, critical=False)
        if names:
            signed = signed.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = signed.sign(self.key, hashes.SHA256())
        plain = serialization.NoEncryption()
        return (
            self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)),
            self._write(f"{name}.key", _private(key, plain)),
        )

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)


def _private(key: ec.EllipticCurvePrivateKey, how: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "Private Authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "Somebody Else")


def shows(certificate: tuple[str, str], wants: Authority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=wants.file if wants else None)
    context.load_cert_chain(*certificate)
    if wants:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def app(port: int = 20000) -> list[Resource]:
    kong = {"port": 80, "protocol": "http", "routes": [{"paths": ["/web"]}]}
    routes = Routes(None, HOST).wanted(App("shop", (Service("web", "shop:1", kong=kong),)))
    return [r.with_spec(targets=[{**t, "address": f"127.0.0.1:{port}"} for t in r.spec["targets"]]) for r in routes]


def works(kong: Kong) -> None:
    wanted = app()
    routes = Routes(kong, HOST)
    routes.apply([Change(None, wanted[0])])
    assert list(routes.observe()) == wanted


# ---- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "postgres"])
def test_over_tls_with_certificates_of_both_sides_all_works(tmp_path: Path, authority: Authority, mode: str) -> None:
    tls = shows(authority.sign("kong", "127.0.0.1"), wants=authority)
    with StandIn(tmp_path, mode, admin_tls=tls) as gateway:
        assert gateway.admin_url.startswith("https://")
        works(Kong(gateway.admin_url, certificates=Certificates(authority.file, *authority.sign("daemon"))))


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        (lambda ours, other: other.sign("kong", "127.0.0.1"), "that is not trusted: .*; .*|not trusted: .*ca_file"),
        (lambda ours, other: ours.sign("old", "127.0.0.1", ends=-DAY), "has a certificate that has expired .renew it"),
        (
            lambda ours, other: ours.sign("named", "kong.test"),
            "certificate for another name: IP address mismatch",
        ),
    ],
    ids=["not trusted", "expired", "another name"],
)
def test_a_certificate_that_does_not_do_is_told_in_one_sentence(
    tmp_path: Path,
    authority: Authority,
    stranger: Authority,
    shown: Callable[[Authority, Authority], tuple[str, str]],
    sentence: str,
) -> None:
    with StandIn(tmp_path, admin_tls=shows(shown(authority, stranger))) as gateway:
        kong = Kong(gateway.admin_url, certificates=Certificates(authority.file))
        with pytest.raises(Unavailable, match=sentence) as told:
            kong.observe(HOST)
    assert str(told.value).startswith(f"Kong at {gateway.admin_url} ")
    assert "\n" not in str(told.value)


def test_without_a_ca_file_only_whom_the_machine_trusts_is_trusted(tmp_path: Path, authority: Authority) -> None:
    tls = shows(authority.sign("kong", "127.0.0.1"))
    with StandIn(tmp_path, admin_tls=tls) as gateway, pytest.raises(Unavailable, match=r"not trusted.*`kong\.ca_file`"):
        Kong(gateway.admin_url).observe(HOST)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_kong_that_wants_a_client_certificate_says_so(
    tmp_path: Path, authority: Authority, stranger: Authority, version: ssl.TLSVersion
) -> None:
    tls = shows(authority.sign("kong", "127.0.0.1"), wants=authority)
    tls.maximum_version = version
    with StandIn(tmp_path, admin_tls=tls) as gateway:
        for certificates in (
            Certificates(authority.file),
            Certificates(authority.file, *stranger.sign("stranger")),
            Certificates(authority.file, *authority.sign("old-daemon", ends=-DAY)),
        ):
            with pytest.raises(Unavailable, match=r"kong\.cert_file") as told:
                Kong(gateway.admin_url, certificates=certificates).observe(HOST)
            assert "certificate" in str(told.value)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_a_server_says_of_our_certificate_is_told(
    authority: Authority, stranger: Authority, version: ssl.TLSVersion
) -> None:
    tls = shows(authority.sign("kong", "127.0.0.1"), wants=authority)
    tls.maximum_version = version
    with before(200, b"{}", tls=tls) as server:
        for ours, sentence in (
            ((), "requires a client certificate .set `kong.cert_file` and `kong.key_file`"),
            (stranger.sign("stranger"), "refuses the client certificate: .*UNKNOWN_CA"),
            (authority.sign("old-daemon", ends=-DAY), "refuses the client certificate: .*CERTIFICATE_EXPIRED"),
        ):
            with pytest.raises(Unavailable, match=sentence):
                Kong(server.url, certificates=Certificates(authority.file, *ours)).observe(HOST)


def test_a_scheme_that_is_not_spoken_there_is_told(tmp_path: Path, authority: Authority) -> None:
    with (
        StandIn(tmp_path) as plain,
        pytest.raises(Unavailable, match=r"the TLS handshake with Kong at .*does it speak http://\?"),
    ):
        Kong(plain.admin_url.replace("http:", "https:")).observe(HOST)
    tls = shows(authority.sign("kong", "127.0.0.1"))
    with (
        StandIn(tmp_path, admin_tls=tls) as gateway,
        pytest.raises(Unavailable, match=r"closes the connection|not Kong's Admin API"),
    ):
        Kong(gateway.admin_url.replace("https:", "http:")).observe(HOST)


def test_files_that_are_no_certificates_are_named(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.sign("daemon")
    _, other = authority.sign("another")
    secret = tmp_path / "secret.key"
    locked = serialization.BestAvailableEncryption(b"passphrase")
    secret.write_bytes(_private(ec.generate_private_key(ec.SECP256R1()), locked))
    empty, broken = tmp_path / "empty.pem", tmp_path / "broken.pem"
    empty.touch()
    broken.write_text("-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")
    for certificates, sentence in (
        (Certificates("/nowhere/ca.pem"), r"cannot read /nowhere/ca.pem \(`kong.ca_file`\): No such file"),
        (Certificates(str(tmp_path)), rf"cannot read {tmp_path} \(`kong.ca_file`\): Is a directory"),
        (Certificates(str(empty)), r"empty.pem \(`kong.ca_file`\) has no certificate"),
        (Certificates(str(broken)), "broken.pem has no certificate"),
        (Certificates("", cert, "/nowhere/key.pem"), r"cannot read /nowhere/key.pem \(`kong.key_file`\)"),
        (Certificates("", cert, other), r"another\.key is not the key of .*daemon\.pem"),
        (Certificates("", cert, str(secret)), r"secret\.key is not the key of .*daemon\.pem.*without a passphrase"),
        (Certificates("", str(broken), key), r"daemon\.key is not the key of .*broken\.pem"),
    ):
        with pytest.raises(Unavailable, match=sentence):
            Kong("https://127.0.0.1:1", certificates=certificates)


# ---- who stands before it --------------------------------------------------------------------------------------------


class Before(http.server.ThreadingHTTPServer):
    """What stands before an Admin API: it answers all by itself, and keeps the headers that it got."""

    daemon_threads = True

    def __init__(self, status: int, content: bytes, kind: str = "text/html", tls: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[str, dict[str, str]]] = []
        before = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                before.got.append((self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.tls = tls
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of that connection."""
        with request.dup() as raw:
            try:
                spoken = self.tls.wrap_socket(request, server_side=True) if self.tls else request
            except OSError:
                raw.settimeout(5)
                while raw.recv(4096):  # so that the alert is not overtaken by a reset
                    pass
                return
        super().finish_request(spoken, client_address)
        if self.tls:
            spoken.close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server_port}"


@contextmanager
def before(status: int, content: bytes, kind: str = "text/html", tls: ssl.SSLContext | None = None) -> Iterator[Before]:
    with Before(status, content, kind, tls) as server:
        yield server
        server.shutdown()


def page(title: str) -> bytes:
    return f"<html><head><title>{title}</title></head><body><h1>Bad</h1></body></html>".encode()


@pytest.mark.parametrize(
    ("status", "content", "sentence"),
    [
        (400, page("400 No required SSL certificate was sent"), r"No required SSL .*`kong\.cert_file` and"),
        (400, page("400 The SSL certificate error"), r"does not accept the certificate in `kong\.cert_file`"),
        (400, page("400 The plain HTTP request was sent to HTTPS port"), "must begin with https://"),
        (404, page("404 Not Found"), "is not Kong's Admin API: HTTP 404"),
        (404, b'{"message":"no Route matched with those values"}', "not Kong's Admin API: HTTP 404: no Route matched"),
        (302, b"", "is not Kong's Admin API: HTTP 302"),
        (200, page("Welcome"), "is not Kong's Admin API: HTTP 200: Welcome"),
        (401, b'{"message":"Unauthorized"}', "denies access: HTTP 401"),
        (403, page("403 Forbidden"), "denies access: HTTP 403"),
        (429, b'{"message":"API rate limit exceeded"}', "answers HTTP 429 .*: API rate limit exceeded"),
        (
            500,
            b'{"message":"An unexpected error occurred"}',
            "HTTP 500 to .*: An unexpected error occurred .Kong's own log says why",
        ),
        (502, page("502 Bad Gateway"), "answers HTTP 502 to"),
    ],
)
def test_what_others_answer_in_its_place_is_no_refusal_and_nothing_is_not_there(
    status: int, content: bytes, sentence: str
) -> None:
    """A version that is marked failed for what a proxy said would be an innocent one."""
    entity = Entity("services", {"id": "1", "name": "web"})
    with before(status, content) as server:
        admin = Admin(server.url)
        for ask in (
            lambda: admin.get("/services/1"),
            lambda: list(admin.entries("/services")),
            lambda: admin.check(entity),
            lambda: admin.write("PUT", "/services/1", entity, entity.fields),
            lambda: admin.load("{}", [entity]),
        ):
            with pytest.raises(Unavailable, match=sentence):
                ask()
        if status != 404:
            with pytest.raises(Unavailable, match=sentence):
                admin.delete("/services/1")


def test_what_is_too_large_is_refused_for_good() -> None:
    with (
        before(413, page("413 Request Entity Too Large")) as server,
        pytest.raises(StepFailed, match="it is too large"),
    ):
        Admin(server.url).load("{}", [])


@pytest.mark.parametrize(
    ("more", "header"),
    [
        ({}, "Kong-Admin-Token"),
        ({"token_header": "apikey"}, "apikey"),
        ({"token_header": "Authorization"}, "Authorization"),
    ],
)
def test_the_token_goes_into_its_header_and_a_path_before_all(more: dict[str, str], header: str) -> None:
    with before(200, b'{"data":[],"next":null}', "application/json") as server:
        list(Admin(f"{server.url}/kong/admin/", "Bearer the-token", **more).entries("/services"))
    ((path, headers),) = server.got
    assert path == "/kong/admin/services?size=1000"
    assert headers[header] == "Bearer the-token"
    assert [name for name, value in headers.items() if "the-token" in value] == [header]


@pytest.mark.parametrize("token", ["two\nlines", "naïve", "nul\0"])
def test_a_token_that_no_header_may_have_is_told_and_not_shown(token: str) -> None:
    with pytest.raises(Unavailable, match=r"`kong\.token_file`") as told:
        Admin("http://127.0.0.1:1", token)
    assert token not in str(told.value)


# ---- a unix socket ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "postgres"])
def test_over_a_unix_socket_all_works(tmp_path: Path, mode: str) -> None:
    with StandIn(tmp_path, mode, admin=tmp_path / "admin.sock") as gateway:
        assert gateway.admin_url == f"unix://{tmp_path}/admin.sock"
        works(Kong(gateway.admin_url))


def test_a_unix_socket_that_is_not_there_or_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"Kong at unix:///.* cannot be reached: No such file"):
        Kong(f"unix://{tmp_path}/none.sock").observe(HOST)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        with pytest.raises(Unavailable, match="cannot be reached"):
            Kong(f"unix://{tmp_path}/silent.sock").observe(HOST)
        silent.listen()
        with pytest.raises(Unavailable, match=r"does not answer within 0\.2 s"):
            Kong(f"unix://{tmp_path}/silent.sock", timeout=0.2).observe(HOST)


# ---- the proxy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [[], ["shop.test"]])
def test_a_route_is_proven_through_a_proxy_with_any_certificate_on_this_machine(
    tmp_path: Path, stranger: Authority, hosts: list[str]
) -> None:
    names: list[str | None] = []
    tls = shows(stranger.sign("localhost"))
    tls.sni_callback = lambda _, name, __: names.append(name)
    kong = {"port": 80, "protocol": "http", "routes": [{"paths": ["/web"], **({"hosts": hosts} if hosts else {})}]}
    (wanted,) = Routes(None, HOST).wanted(App("shop", (Service("web", "shop:1", kong=kong),)))
    route = wanted.with_spec(targets=[{"instance": "a", "address": "127.0.0.1:1"}])
    with StandIn(tmp_path, proxy_tls=tls) as gateway:
        asking = Kong(gateway.admin_url, gateway.proxy_url)
        assert asking.answers(route)[:2] == (Health.PROGRESSING, "Kong has no route for GET /web yet")
        Routes(asking, HOST).apply([Change(None, route)])
        assert "502" in asking.answers(route)[1]
    assert set(names) == ({"shop.test"} if hosts else {None})


def test_on_another_machine_the_proxy_s_certificate_has_to_be_good(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    ours = Certificates(authority.file)
    assert certificates_for("https://kong.example.org", ours) == ours
    assert certificates_for("https://kong.example.org", None) == Certificates()
    for signed, health in ((authority, Health.PROGRESSING), (stranger, Health.UNKNOWN)):
        with StandIn(tmp_path, proxy_tls=shows(signed.sign("proxy", "127.0.0.1"))) as gateway:
            assert send(gateway.proxy_url, Request("GET", "/web", {}), "mvd.shop.web", ours).health is health
            assert certificates_for(gateway.proxy_url, ours) is None


# ---- what Kong itself cannot do --------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["off", "postgres"])
def test_a_kong_enterprise_without_a_license_is_named_and_changed_in_nothing(tmp_path: Path, database: str) -> None:
    with StandIn(tmp_path, database=database, licensed=False, say=lambda _: None) as gateway:
        kong = Kong(gateway.admin_url)
        routes = Routes(kong, HOST)
        assert list(routes.observe()) == []
        web = Service("web", "shop:1", kong={"port": 80, "protocol": "http", "routes": [{"paths": ["/web"]}]})
        (route,) = routes.wanted(App("shop", (web,)))
        change = Change(None, route.with_spec(targets=[]))
        for attempt in (routes.prepare, routes.apply):
            with pytest.raises(Unavailable) as refused:
                attempt([change])
            told = f"Kong at {gateway.admin_url} only reads: Enterprise license missing or expired"
            assert refused.value.message == told
            assert refused.value.hint == (
                "renew the license, or use Kong 3.9, which needs none; what serves goes on serving"
            )
        with pytest.raises(Unavailable, match="only reads"):
            kong.require_writable()
        assert gateway.changes == 0


def test_a_kong_whose_database_is_gone_is_said_to_be_so(tmp_path: Path) -> None:
    with StandIn(tmp_path, database="postgres", say=lambda _: None) as gateway:
        routes = Routes(Kong(gateway.admin_url), HOST)
        assert list(routes.observe()) == []
        gateway.cut_off_database()
        with pytest.raises(Unavailable) as gone:
            list(routes.observe())
        with pytest.raises(Unavailable, match="Kong's database does not answer"):
            Kong(gateway.admin_url).observe(HOST)
    assert gone.value.message == (
        f"Kong's database does not answer: Kong at {gateway.admin_url} answers HTTP 500 to GET /services"
    )
    assert gone.value.hint == "start the database; what serves goes on serving"


@pytest.mark.parametrize("database", ["off", "postgres"])
def test_what_kong_s_own_settings_cost_a_deploy_is_told(tmp_path: Path, database: str) -> None:
    with StandIn(tmp_path, database=database, say=lambda _: None) as gateway:
        kong = Kong(gateway.admin_url)
        kong.require_writable()
        idle, *others = kong.costs()
    assert idle == (
        "upstream_keepalive_idle_timeout 60 s: Kong keeps idle connections to instances for so long, which costs "
        "nothing: Kong counts its open requests, and an old instance stops at the last"
    )
    assert (
        others
        == {
            "off": ["no database: a change is used at once"],
            "postgres": [
                "worker_consistency eventual, worker_state_update_frequency 5 s: a new or changed route takes up to "
                "that long; other targets of a route, as in most deploys, take none of it",
                "db_update_frequency 5 s: other nodes of this Kong have a change after up to that long",
            ],
        }[database]
    )
