"""What is taken for a secret by its name or by its form, and what only looks like one."""

from __future__ import annotations

import pytest

from gitops_mvd.core.secret_words import is_telling
from gitops_mvd.imports.images import entry_point, file_variable
from gitops_mvd.imports.secrets import why_secret

PEM = (
    "-----BEGIN " + "OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n"
)  # in two parts, so that no scanner takes it for one
SECRET = {
    "POSTGRES_PASSWORD": "postgres",
    "DB_PASS": "x1",
    "PAPERLESS_DBPASS": "paperless",
    "MYSQL_ROOT_PASSWORD": "12345",
    "DB_PASSWORD_2": "a",
    "PGPASSWORD": "x",
    "SMTP_PW": "hey",
    "DB_PWD": "w",
    "adminPassword": "x",
    "GITEA__database__PASSWD": "g",
    "SECRET_KEY_BASE": "abc",
    "JWT_SECRET": "s",
    "API_KEY": "z",
    "apikey": "k",
    "OPENAI_API_KEY": "anything",
    "APP_KEY": "base64:abcd",
    "ENCRYPTION_KEY": "q",
    "WORDPRESS_AUTH_SALT": "x1",
    "TUNNEL_TOKEN": "abc",
    "WIREGUARD_PRIVATE_KEY": "abc=",
    "CREDENTIALS": "u:p",
    "SENTRY_DSN": "https://abc@o1.example.org/5",
    "NEO4J_AUTH": "neo4j/letmein",
    "DATABASE_URL": "postgres://app:hunter2@db/app",
    "REDIS": "redis://:pw@r:6379",
    "CONNECTION": "Server=db;Database=x;User Id=sa;Password=Hunter2!;",
    "JSON": '{"password": "xK3v9w"}',
    "JSON_OF_TWO": '{"password": "${PASSWORD}", "client_secret":"xK3v9w"}',
    "LIBPQ": "host=db user=app password=hunter2",
    "A": "ghp_" + "a1" * 18,
    "B": "glpat-" + "a1" * 10,
    "C": "AKIA" + "ABCDEFGHIJKLMNOP",
    "D": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def",
    "E": "xoxb-123456789012-abcdef",
    "F": "sk_live_" + "a1" * 10,
    "G": PEM,
    "H": "9f86d081884c7d659a2feaa0c55ad015",
    "I": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyMTIz",
    "J": "admin:$apr1$ruca84Hq$mbjdMZBAG.KWn7vfN",
}
NO_SECRET = {
    "PUBLIC_KEY": "ssh-ed25519 AAAA",
    "SITE_KEY": "abc",
    "KEYBOARD": "us",
    "KEYCLOAK_URL": "http://x",
    "POSTGRES_PASSWORD_FILE": "/run/secrets/x",
    "JWT_SECRET": "/run/secrets/jwt",
    "DB_PASSWORD": "",
    "MYSQL_RANDOM_ROOT_PASSWORD": "1",
    "MYSQL_ALLOW_EMPTY_PASSWORD": "yes",
    "POSTGRES_HOST_AUTH_METHOD": "trust",
    "AUTH_ENABLED": "true",
    "DISABLE_AUTH": "true",
    "SMTP_AUTH": "login",
    "AUTH_URL": "https://a.example.org/login",
    "TOKEN_TTL": "3600",
    "TOKEN_EXPIRATION": "1h",
    "PASSWORD_MIN_LENGTH": "8",
    "KEY_PATH": "/a",
    "SECRET_NAME": "x",
    "COMPASS": "n",
    "BYPASS": "x",
    "PWD": "/x",
    "PASSIVE_PORTS": "1-2",
    "PRIVATE_NETWORK": "10.0.0.0/8",
    "DB_USER": "x",
    "REDIS_URL": "redis://redis:6379/0",
    "URL": "http://db:5432/x",
    "TEMPLATE": "postgres://app:${DB_PASSWORD}@db/app",
    "REFERENCE": "{file://db-password}",
    "API_TOKEN": "{vault://env/token}",
    "JAVA_OPTS": "-Xms2g -Xmx2g -Dfoo=bar",
    "GIT_COMMIT": "9f86d081884c7d659a2feaa0c55ad0159f86d081",
    "IMAGE": "sha256:9f86d081884c7d659a2feaa0c55ad0159f86d0819f86d081884c7d659a2feaa0",
    "HOST": "this-is-a-long-host-name-that-is-no-secret.example.org",
    "PYTHONPATH": "/usr/local/lib/python3/dist-packages/Foo/Bar",
    "TZ": "Europe/London",
    "JSON": '{"password": "${DB_PASSWORD}", "secret": "{file://x}"}',
}


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_is_known_with_a_reason_that_does_not_have_it(name: str) -> None:
    why = why_secret(name, SECRET[name])
    assert why
    assert len(SECRET[name]) < 4 or SECRET[name] not in why


@pytest.mark.parametrize("name", NO_SECRET)
def test_what_only_looks_like_a_secret_is_none(name: str) -> None:
    assert why_secret(name, NO_SECRET[name]) == ""


@pytest.mark.parametrize("value", ["hunter2", "Tr0ub4dor&3", "s3cr3t", "correcthorsebattery", "ab cd1"])
def test_a_telling_secret_is_looked_for_elsewhere(value: str) -> None:
    assert is_telling(value)


@pytest.mark.parametrize("value", ["", "admin", "postgres", "nextcloud", "Secret", "ROOT", "x1"])
def test_a_word_is_not_looked_for_elsewhere(value: str) -> None:
    assert not is_telling(value)


@pytest.mark.parametrize(
    "value", ["a" * 1_000_000, "a_" * 500_000, " " * 1_000_000, "://" * 300_000, "password " * 100_000]
)
def test_a_long_value_is_judged_at_once(value: str) -> None:
    why_secret("A", value)  # it ends


@pytest.mark.parametrize(
    ("image", "variable", "wanted"),
    [
        ("postgres:16", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE"),
        ("docker.io/library/postgres:16@sha256:" + "0" * 64, "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE"),
        ("registry.example.org:5000/postgres:16", "POSTGRES_PASSWORD", ""),
        ("postgres:16", "MY_PASSWORD", ""),
        ("mariadb", "MARIADB_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD_FILE"),
        ("grafana/grafana:11", "GF_SECURITY_ADMIN_PASSWORD", "GF_SECURITY_ADMIN_PASSWORD__FILE"),
        ("lscr.io/linuxserver/mariadb:latest", "MYSQL_ROOT_PASSWORD", "FILE__MYSQL_ROOT_PASSWORD"),
        ("docker.gitea.com/gitea:1", "GITEA__mailer__PASSWD", "GITEA__mailer__PASSWD__FILE"),
        ("gitea/gitea:1.22", "GITEA__mailer__PASSWD", "GITEA__mailer__PASSWD__FILE"),
        ("acme/app", "DB_PASSWORD", ""),
        ("", "DB_PASSWORD", ""),
    ],
)
def test_an_image_is_known_to_read_a_variable_from_a_file(image: str, variable: str, wanted: str) -> None:
    assert file_variable(image, variable) == wanted


def test_the_entry_point_of_an_official_image_is_known() -> None:
    assert entry_point("redis:7-alpine") == "docker-entrypoint.sh"
    assert entry_point("acme/redis:7") == ""
