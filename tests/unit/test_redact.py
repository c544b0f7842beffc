"""What a failing container prints tells nobody a secret."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.model import File, Service
from gitops_mvd.core.redact import redact, secrets_of

SERVICE = Service(
    "web",
    "i",
    environment={
        "SMTP_PW": "hunter2222",
        "LICENSE": "LIC-9999-8888",
        "PG_URL": "postgres://app:s3cr3tpw@db/x",
        "API_TOKEN": "tok-abcdefghijkl",
        "PEM_KEY": "-----BEGIN KEY-----\nMIIBVwIBADANBg\n-----END KEY-----",
        "UNNAMED": "a8f5f167f44f4964",
        "LOG_LEVEL": "warning",
        "UPSTREAM": "http://backend-2:8080/health",
    },
    files=(
        File("/run/secrets/m", {"": "user=alice\npassword=onlyline2\nx=1\n"}),
        File("/etc/c", {"": 'dsn=http://u:urlpw12345@h\nlevel = debug\n"apiKey": "k-in-json",\n'}),
    ),
)
SECRETS = secrets_of(SERVICE)


@pytest.mark.parametrize(
    ("said", "leak"),
    [
        ("bad login hunter2222", "hunter2222"),
        ("cannot connect to postgres://app:s3cr3tpw@db/x", "s3cr3tpw"),
        ("password authentication failed: s3cr3tpw", "s3cr3tpw"),
        ("password=onlyline2 refused", "onlyline2"),
        ("got 'onlyline2'", "onlyline2"),
        ("connecting to u:urlpw12345@h", "urlpw12345"),
        ("no license LIC-9999-8888", "LIC-9999"),
        ("token tok-abcd… is too old", "tok-abcd"),
        ("key MIIBVwIBADANBg", "MIIBVw"),
        ("id a8f5f167f44f4964", "a8f5f167"),
        ("apiKey k-in-json", "k-in-json"),
        (base64.b64encode(b"tok-abcdefghijkl").decode(), "dG9rLWFiY2RlZmdoaWprbA"),
        (b"tok-abcdefghijkl".hex(), b"tok-abcdefghijkl".hex()),
    ],
)
def test_nothing_secret_is_told(said: str, leak: str) -> None:
    assert leak in said
    assert leak not in redact(said, SECRETS)
    assert "***" in redact(said, SECRETS)


@pytest.mark.parametrize(
    "said",
    [
        "http 503 from http://backend-2:8080/health for 60 s",
        "log level warning",
        "level = debug",
        "exited with code 1",
    ],
)
def test_a_cause_stays_readable(said: str) -> None:
    assert redact(said, SECRETS) == said


@given(
    st.text(st.characters(codec="utf-8"), min_size=4, max_size=40).filter(lambda it: "*" not in it),
    st.text(),
    st.text(),
)
def test_no_secret_is_left_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in redact(f"{before}{secret}{after}", [secret])


@given(st.binary(max_size=200))
def test_whatever_a_file_has_it_is_read(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape")
    secrets_of(Service("web", "i", environment={"A": text}, files=(File("/run/secrets/x", {"": text}),)))
    redact(text, [text])
