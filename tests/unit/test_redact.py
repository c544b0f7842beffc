"""What a failing container prints tells nobody a secret."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core import redact as redaction
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, CommitStatus, Failure, File, Health, Operation, Outcome, Problem, Service, Sync
from gitops_mvd.core.redact import MOST_VERSIONS, learn, learn_apps, redact, secrets_of, secrets_of_app, told_line

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


# ---- what is known by the whole process ------------------------------------------------------------------------------


def test_what_is_known_is_in_nothing_that_is_made_to_be_told() -> None:
    learn("forge.token_file", "t0k3n-of-the-forge")
    said = "it was t0k3n-of-the-forge, or t0k3n-of"
    outcome = Outcome("web", Sync.UNKNOWN, Health.UNKNOWN, why=said)
    status = CommitStatus("c", Operation.FAILED, Health.UNKNOWN, said)
    for told in (str(Unavailable(said, said)), outcome.why, status.description, Problem("f", 1, "k", said).message):
        assert "t0k3n-" not in told
        assert "it was ***, or ***" in told
    assert Failure(said).why == told_line(said)


def test_a_word_of_everyday_language_is_not_looked_for_in_what_is_told_of_others() -> None:
    app = App(
        "db", (Service("db", "i", environment={"POSTGRES_PASSWORD": "postgres", "SMTP_PASSWORD": "correct horse"}),)
    )
    learn_apps([app])
    assert told_line("cannot pull postgres:16") == "cannot pull postgres:16"
    assert redact("login postgres", secrets_of_app(app)) == "login ***"
    assert told_line("this is correct") == "this is correct"
    assert told_line("this is correct horse") == "this is ***"


def test_old_versions_are_forgotten_one_by_one() -> None:
    for version in range(500):
        learn("app web", f"s3cret-{version:03d}")
    assert told_line(f"s3cret-{499}") == "***"
    assert told_line(f"s3cret-{500 - MOST_VERSIONS}") == "***"
    assert len(redaction.known._all()) <= MOST_VERSIONS


def test_what_only_a_part_of_two_secrets_overlaps_is_struck_out_whole() -> None:
    assert redact("xxx4bcdefgh!", ["xxx4bcdzzz1", "4bcdefgh"]) == "***!"


@pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
def test_a_secret_is_found_in_base64_wherever_it_begins(before: str) -> None:
    said = base64.b64encode(f"{before}hunter2-x9{before}".encode()).decode()
    assert redact(f"Basic {said}", ["hunter2-x9"]) == "Basic ***"


@pytest.mark.parametrize(
    "where",
    [
        {"command": ["serve", "--password", "hunter2-x9"]},
        {"entrypoint": ["serve", "--api-key=hunter2-x9"]},
        {"labels": {"com.example.token": "hunter2-x9"}},
        {"healthcheck": {"test": ["CMD-SHELL", "ask --password hunter2-x9"]}},
        {"logging": {"driver": "splunk", "options": {"splunk-token": "hunter2-x9"}}},
        {"environment": {"A": "amqp://u:hunter2-x9@mq"}},
    ],
)
def test_a_secret_is_known_wherever_it_stands(where: dict[str, object]) -> None:
    service = Service("web", "i", **{} if "run" in where else {"run": where})  # type: ignore[arg-type]
    assert "hunter2-x9" in secrets_of(service, sure=True)


@pytest.mark.parametrize("shorter", ["changemenow", "supersecret", "aaaa-bbbb-cccc", "correct horse battery"])
def test_a_secret_that_another_one_begins_with_is_struck_out(shorter: str) -> None:
    said = f"auth failed for {shorter}: denied; and {shorter}-x"
    assert redact(said, [shorter, f"{shorter}!", f"{shorter}1\n"]) == "auth failed for ***: denied; and ***-x"


def test_a_version_that_is_in_use_is_not_forgotten_for_newer_ones() -> None:
    learn("app", "Zx0kLm-0-Qw7")
    for number in range(1, 30):
        learn("app", f"Zx0kLm-{number}-Qw7xx")
        learn("app", "Zx0kLm-0-Qw7")
    assert told_line("web said Zx0kLm-0-Qw7") == "web said ***"
