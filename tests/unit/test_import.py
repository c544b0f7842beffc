"""A Compose project becomes an app: each change, its place and its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gitops_mvd.core.errors import MvdError
from gitops_mvd.imports.draft import Request
from gitops_mvd.imports.report import as_json, refusal
from tests.unit.importing import Importing, changes, problems, report, text, write


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    return Importing(tmp_path)


# ---- files and names -------------------------------------------------------------------------------------------------

PLAIN = """\
# what runs our shop   # and nothing else
x-all: &all {restart: always}
services:
  web:
    <<: *all
    image: nginx:1.28     # pinned
    ports:   [ '80:80' ]
"""


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_a_plain_project_comes_over_as_it_is_under_the_one_name(importing: Importing, name: str) -> None:
    found = importing.written({name: PLAIN})
    assert found.app == "shop"
    assert {file: it.content.decode() for file, it in found.files.items()} == {"compose.yaml": PLAIN}
    assert list(found.changes) == []


def test_line_ends_and_letters_stay(importing: Importing) -> None:
    windows = PLAIN.replace("\n", "\r\n").replace("our", "notre ü😀")
    found = importing.written({"compose.yaml": windows.encode()})
    assert found.files["compose.yaml"].content == windows.encode()


def test_the_app_is_named_as_compose_names_the_project(importing: Importing) -> None:
    assert importing.plan("name: My-Shop_2\nservices: {web: {image: a}}").app == "my-shop_2"
    found = importing.written({"compose.yaml": "services: {web: {image: a}}", ".env": "COMPOSE_PROJECT_NAME=other\n"})
    assert found.app == "other"


@pytest.mark.parametrize("name", ["", "name: written\n"])
def test_the_variable_with_the_name_of_the_project_goes_before_the_name_in_the_file(
    importing: Importing, name: str
) -> None:
    files = {
        "compose.yaml": f"{name}services: {{web: {{image: a, volumes: ['d:/d']}}}}\nvolumes: {{d: {{}}}}\n",
        ".env": "COMPOSE_PROJECT_NAME=other\n",
    }
    found = importing.written(files)
    assert found.app == "other"
    assert [(was, now) for _, was, now in found.volumes] == [("other_d", "other_d")]


def test_a_name_of_ones_own_is_written_into_the_file(importing: Importing) -> None:
    found = importing.written("name: web-shop  # ours\nservices: {web: {image: a}}\n", app="shop2")
    assert text(found).splitlines()[0] == "name: shop2  # ours"
    assert "compose.yaml:1: name: shop2" in changes(found)


@pytest.mark.parametrize("app", ["Shop", "a.b", "gateway", "-", "ü", "x" * 64])
def test_a_name_that_no_app_can_have_is_refused(importing: Importing, app: str) -> None:
    with pytest.raises(MvdError, match="name"):
        importing.plan(PLAIN, app=app)


def test_a_folder_without_a_usable_name_needs_one(importing: Importing, tmp_path: Path) -> None:
    write(tmp_path / "日本", {"compose.yaml": PLAIN})
    with pytest.raises(MvdError, match="makes no name of an app"):
        importing.plan(path=str(tmp_path / "日本"))


def test_an_app_that_is_there_is_never_overwritten(importing: Importing) -> None:
    importing.written(PLAIN)
    with pytest.raises(MvdError, match="apps/shop exists already"):
        importing.plan(PLAIN)


def test_an_override_is_merged_as_compose_does(importing: Importing) -> None:
    found = importing.written(
        {
            "docker-compose.yml": "services:\n  web: {image: a, environment: {A: one, B: one}}   # base\n",
            "docker-compose.override.yml": "services:\n  web: {environment: {B: two}}   # over\n",
        }
    )
    assert [*found.files] == ["base.yaml", "compose.yaml", "override.yaml"]
    assert "# base" in text(found, "base.yaml")
    assert "# over" in text(found, "override.yaml")
    assert "docker-compose.override.yml:1: merged over docker-compose.yml" in changes(found)
    alone = importing.plan(path=str(importing.project / "docker-compose.yml"), app="alone")
    assert [*alone.files] == ["compose.yaml"]


def test_compose_files_that_are_not_taken_are_named(importing: Importing) -> None:
    found = importing.plan({"compose.yaml": PLAIN, "docker-compose.prod.yml": PLAIN, "notes.yaml": ""})
    assert list(found.others) == ["docker-compose.prod.yml"]


def test_files_that_the_env_file_names_are_those_of_the_project(importing: Importing) -> None:
    found = importing.written(
        {
            ".env": "COMPOSE_FILE=app.yml:app.prod.yml\n",
            "app.yml": "services: {web: {image: a}}",
            "app.prod.yml": "services: {web: {image: b}}",
        }
    )
    assert found.sources == ("app.yml", "app.prod.yml")


def test_files_that_others_extend_and_include_come_along(importing: Importing) -> None:
    found = importing.written(
        {
            "compose.yaml": """\
                include: [db/docker-compose.yml]
                services:
                  web:
                    extends: {file: ../common/docker-compose.yml, service: base}
                """,
            "db/docker-compose.yml": "services: {db: {image: 'pg:${VERSION}', volumes: [./data:/data]}}",
            "db/.env": "VERSION=17\n",
            "../common/docker-compose.yml": "services: {base: {image: a, env_file: web.env}}",
            "../common/web.env": "A=1\n",
        }
    )
    assert {*found.files} == {
        "compose.yaml",
        "db/docker-compose.yml",
        "db/.env",
        "common/docker-compose.yml",
        "common/web.env",
    }
    assert "extends: {file: ./common/docker-compose.yml, service: base}" in text(found)
    assert [(it.folder, it.services) for it in found.data] == [("db/data", ("db",))]


def test_a_file_that_is_included_beside_the_main_one_gets_a_name_of_its_own(importing: Importing) -> None:
    found = importing.written({"compose.yaml": "include: [docker-compose.db.yml]", "docker-compose.db.yml": PLAIN})
    assert {*found.files} == {"compose.yaml", "db.yaml"}
    assert "include: [./db.yaml]" in text(found)


def test_the_main_file_stays_the_main_one_when_another_file_extends_it(importing: Importing) -> None:
    other = "services: {worker: {extends: {file: ../docker-compose.yml, service: web}}}\n"
    found = importing.written(
        {"docker-compose.yml": "include: [sub/a.yml]\nservices: {web: {image: a}}\n", "sub/a.yml": other}
    )
    assert text(found, "sub/a.yml") == other.replace("docker-compose.yml", "compose.yaml")


def test_an_include_of_the_name_of_an_override_does_not_take_its_place(importing: Importing) -> None:
    found = importing.written(
        {
            ".env": "COMPOSE_FILE=a.yml:b.yml",
            "a.yml": "include: [override.yaml]\nservices: {web: {image: a}}\n",
            "b.yml": "services: {web: {restart: always}}\n",
            "override.yaml": "services: {worker: {image: b}}\n",
        }
    )
    assert text(found, "base.yaml").startswith("include: [./override-2.yaml]")
    assert text(found, "override.yaml") == "services: {web: {restart: always}}\n"


def test_the_folder_of_an_include_is_written_into_its_paths(importing: Importing) -> None:
    found = importing.written(
        {
            "compose.yaml": "include:\n  - path: parts/db.yaml\n    project_directory: .\n",
            "parts/db.yaml": "services: {db: {image: a, env_file: db.env}}",
            "db.env": "A=1\n",
        }
    )
    assert "env_file: ../db.env" in text(found, "parts/db.yaml")


# ---- images ----------------------------------------------------------------------------------------------------------

BUILT = """\
services:
  web:
    build:
      context: ./web     # its sources
      target: prod
    restart: always
  worker: {build: ., restart: always}
"""


def test_an_image_is_asked_for_where_one_is_built(importing: Importing) -> None:
    found = importing.plan(BUILT)
    assert [(it.kind, it.name, it.places[0].line) for it in found.questions] == [
        ("image", "web", 3),
        ("image", "worker", 7),
    ]
    assert problems(found) == []
    assert f"mvd import {importing.project} --image web=IMAGE --image worker=IMAGE" in report(found)


@pytest.mark.parametrize("login", ["bob:hunter2!", "hunter2!", "bob:a@hunter2!"])
def test_the_login_of_a_build_is_not_shown(importing: Importing, login: str) -> None:
    compose = f"services: {{web: {{build: {{context: 'https://{login}@git.example.org/a.git#v1'}}}}}}\n"
    for found in (importing.plan(compose), importing.written(compose, images={"web": "acme/web:1"})):
        printed = report(found) + str(as_json(found, Request(found.root), "", written=False))
        assert "https://***@git.example.org/a.git#v1" in printed
        assert "hunter2" not in printed


def test_an_image_takes_the_place_of_its_build(importing: Importing) -> None:
    found = importing.written(BUILT, images={"web": "ghcr.io/me/web:1", "worker": "ghcr.io/me/worker:1"})
    assert text(found) == (
        "services:\n"
        "  web:\n"
        "    image: ghcr.io/me/web:1\n"
        "    restart: always\n"
        "  worker: {image: ghcr.io/me/worker:1, restart: always}\n"
    )
    assert f"docker build --tag ghcr.io/me/web:1 --target prod {importing.project}/web && docker push" in report(found)


def test_a_build_beside_an_image_is_removed_and_its_push_is_told(importing: Importing) -> None:
    found = importing.written("services:\n  web:\n    image: me/web:1\n    build: .\n")
    assert text(found) == "services:\n  web:\n    image: me/web:1\n"
    assert "web runs me/web:1, which has to be in a registry" in report(found)


def test_a_build_that_is_merged_in_gets_an_image_in_each_service(importing: Importing) -> None:
    file = "x-app: &app\n  build: .\n  restart: always\nservices:\n  a:\n    <<: *app\n  b:\n    <<: *app\n"
    assert [it.name for it in importing.plan(file).questions] == ["a", "b"]
    found = importing.written(file, images={"a": "me/a", "b": "me/b"})
    assert "  a:\n    <<: *app\n    image: me/a\n  b:\n    <<: *app\n    image: me/b\n" in text(found)
    assert "build" not in text(found)


def test_services_that_are_one_alias_cannot_have_two_images(importing: Importing) -> None:
    found = importing.plan("services:\n  a: &a\n    build: .\n    init: true\n  b: *a\n")
    assert any("shares all of its keys" in problem for problem in problems(found))


@pytest.mark.parametrize("images", [{"nope": "a"}, {"web": "Not An Image"}])
def test_an_image_for_no_service_or_that_is_none_is_refused(importing: Importing, images: dict[str, str]) -> None:
    assert problems(importing.plan("services: {web: {image: a}}", images=images))


# ---- secrets in the environment --------------------------------------------------------------------------------------


def test_a_secret_that_an_image_reads_from_a_file_moves_to_the_host(importing: Importing) -> None:
    found = importing.written(
        """\
        services:
          db:
            image: postgres:17
            environment:
              POSTGRES_USER: shop
              POSTGRES_PASSWORD: "s3cr3t-Pa55"   # change it
            volumes: [data:/var/lib/postgresql/data]
        volumes: {data: }
        """
    )
    assert 'POSTGRES_PASSWORD_FILE: "/run/secrets/POSTGRES_PASSWORD"   # change it' in text(found)
    assert "[data:/var/lib/postgresql/data, ./secrets/db:/run/secrets:ro]" in text(found)
    (secret,) = found.secrets
    assert secret.path == "/srv/mvd/shop/secrets/db/POSTGRES_PASSWORD"
    assert "install -m 444 /dev/stdin /srv/mvd/shop/secrets/db/POSTGRES_PASSWORD" in report(found)
    assert "s3cr3t-Pa55" not in text(found) + report(found)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("environment:\n      TOKEN: abc123   # mine\n", "environment:\n      TOKEN:   # mine\n"),
        ("environment:\n      - TOKEN=abc123   # mine\n", "environment:\n      - TOKEN   # mine\n"),
        ("environment:\n      - 'TOKEN=abc123'\n", "environment:\n      - 'TOKEN'\n"),
        ("environment: {TOKEN: abc123, A: b}\n", "environment: {TOKEN: null, A: b}\n"),
        ("environment: {A: b, TOKEN: abc123}\n", "environment: {A: b, TOKEN: null}\n"),
        ("environment: [TOKEN=abc123, A=b]\n", "environment: [TOKEN, A=b]\n"),
        (
            "environment:\n      TOKEN: >-\n        abc123\n        def\n      A: b\n",
            "environment:\n      TOKEN:\n      A: b\n",
        ),
        ("environment:\n      URL: redis://:hunter2@db\n", "environment:\n      URL:\n"),
    ],
)
def test_any_other_secret_is_left_to_the_variables_of_the_host(importing: Importing, written: str, wanted: str) -> None:
    found = importing.written(f"services:\n  web:\n    image: acme/web\n    {written}")
    assert text(found) == f"services:\n  web:\n    image: acme/web\n    {wanted}"
    assert [secret.variable for secret in found.secrets] in (["TOKEN"], ["URL"])
    assert "abc123" not in report(found)
    assert "hunter2" not in report(found)


def test_a_text_made_of_secret_variables_stays_and_its_variables_leave_git(importing: Importing) -> None:
    found = importing.written(
        {
            ".env": "DB_PASSWORD=hunter2!\nDB_NAME=shop\n",
            "compose.yaml": """\
                services:
                  web:
                    image: acme/web
                    environment:
                      URL: "postgres://${DB_NAME}:${DB_PASSWORD}@db/${DB_NAME}"
                      PASSWORD: $DB_PASSWORD
                """,
        }
    )
    assert 'URL: "postgres://${DB_NAME}:${DB_PASSWORD-}@db/${DB_NAME}"' in text(found)
    assert "PASSWORD: ${DB_PASSWORD-}" in text(found)
    assert text(found, ".env") == "DB_NAME=shop\n"
    assert {secret.variable for secret in found.secrets} == {"DB_PASSWORD"}
    assert str(found.secrets[0].origin) == ".env:1"


def test_what_else_is_missing_in_a_secret_is_asked_for(importing: Importing) -> None:
    file = "services:\n  web:\n    image: a\n    environment: {URL: 'redis://:${REDIS_PASSWORD}@${REDIS_HOST}/0'}\n"
    assert [it.name for it in importing.plan(file).questions] == ["REDIS_HOST"]
    found = importing.written(file, values={"REDIS_HOST": "redis"})
    assert "URL: 'redis://:${REDIS_PASSWORD-}@${REDIS_HOST}/0'" in text(found)
    assert [it.variable for it in found.secrets] == ["REDIS_PASSWORD"]


def test_an_anchor_with_a_secret_is_emptied_with_its_aliases(importing: Importing) -> None:
    found = importing.written(
        "services:\n  a: {image: x, environment: {A_TOKEN: &t abc-123}}\n  b: {image: x, environment: {B_TOKEN: *t}}\n"
    )
    assert "abc-123" not in text(found)
    assert yaml.safe_load(text(found))["services"]["b"]["environment"] == {"B_TOKEN": None}


def test_a_variable_under_a_harmless_name_is_secret_by_what_it_is_used_for(importing: Importing) -> None:
    env = "PG=hunter2!\nHOST=db.example.org\n"
    compose = "services: {web: {image: a, environment: {DB_PASSWORD: '$PG', URL: 'http://u:${PG}@$HOST'}}}"
    found = importing.written({".env": env, "compose.yaml": compose})
    assert text(found, ".env") == "HOST=db.example.org\n"
    assert "hunter2!" not in report(found)


def test_a_default_that_is_a_password_goes_too(importing: Importing) -> None:
    found = importing.written("services: {web: {image: a, environment: {DB_PASSWORD: '${DB_PASSWORD:-hunter2!}'}}}")
    assert "hunter2!" not in text(found)


def test_two_secrets_of_one_name_become_two_variables(importing: Importing) -> None:
    found = importing.written(
        "services:\n  a: {image: x, environment: {TOKEN: one-1}}\n  b-c: {image: x, environment: [TOKEN=two-2]}\n"
    )
    assert "a: {image: x, environment: {TOKEN: ${A_TOKEN-}}}" in text(found) or 'TOKEN: "${A_TOKEN-}"' in text(found)
    assert "TOKEN=${B_C_TOKEN-}" in text(found)
    assert {secret.variable for secret in found.secrets} == {"A_TOKEN", "B_C_TOKEN"}


def test_an_env_file_loses_its_secrets_and_keeps_the_rest(importing: Importing) -> None:
    found = importing.written(
        {
            "web.env": "# it\nA=1\nexport API_KEY='abc-123'  # of the shop\n#OLD_PASSWORD=hunter2!\nKEY='a\nb'\nB=2\n",
            "compose.yaml": "services: {web: {image: acme/web, env_file: [web.env]}}",
        }
    )
    assert text(found, "web.env") == "# it\nA=1\nAPI_KEY\n#OLD_PASSWORD=\nKEY='a\nb'\nB=2\n"
    assert "web.env:3: value removed" in changes(found)
    assert "abc-123" not in report(found)


def test_an_env_file_of_an_image_that_reads_files_names_the_file(importing: Importing) -> None:
    found = importing.written(
        {
            "db.env": "POSTGRES_PASSWORD=hunter2!\n",
            "compose.yaml": "services:\n  db:\n    image: postgres:17\n    env_file: db.env\n",
        }
    )
    assert text(found, "db.env") == "POSTGRES_PASSWORD_FILE=/run/secrets/POSTGRES_PASSWORD\n"
    assert text(found).endswith("    volumes:\n      - ./secrets/db:/run/secrets:ro\n")


def test_what_is_no_secret_can_be_said(importing: Importing) -> None:
    env = {"LICENSE_KEY": "AB-12", "URL": "http://demo:demo1@demo"}
    lines = "".join(f"      {name}: {value}\n" for name, value in env.items())
    found = importing.written(
        f"services:\n  web:\n    image: a\n    environment:\n{lines}", not_secret={"LICENSE_KEY", "web.URL"}
    )
    assert list(found.changes) == []
    assert list(found.secrets) == []


def test_a_variable_that_every_host_has_stays_as_it_is(importing: Importing) -> None:
    write(
        importing.repository,
        {"fleet.yaml": "hosts: {a: {variables: {TOKEN: x, TAG: '1'}}, b: {variables: {TOKEN: y, TAG: '2'}}}"},
    )
    found = importing.written(
        {".env": "TOKEN=abc123\n", "compose.yaml": "services: {web: {image: 'a:$TAG', environment: {T: $TOKEN}}}"}
    )
    assert "environment: {T: $TOKEN}" in text(found)
    assert ".env" not in found.files


def test_comments_lose_their_secrets(importing: Importing) -> None:
    found = importing.written(
        """\
        services:
          web:
            image: acme/web
            environment:
              # DB_PASSWORD: before1
              # it was hunter2! in the old days
              TOKEN: hunter2!
              # PORT: 80
        """
    )
    assert "# DB_PASSWORD: ***" in text(found)
    assert "# ***" in text(found)
    assert "# PORT: 80" in text(found)
    assert "hunter2!" not in text(found)
    assert "before1" not in text(found)


# ---- secrets elsewhere -----------------------------------------------------------------------------------------------


def test_secrets_of_the_top_level_are_read_from_the_host(importing: Importing) -> None:
    found = importing.written(
        {
            "token.txt": "abc-123-secret",
            "compose.yaml": """\
                services:
                  web:
                    image: acme/web
                    environment: {TOKEN_FILE: /run/secrets/token}
                    secrets:
                      - token
                      - {source: tls, target: /etc/ssl/private/key.pem, mode: 0440}
                  worker:
                    image: acme/worker
                    secrets: [token]
                secrets:
                  token: {file: ./token.txt}
                  tls: {environment: TLS_KEY}
                """,
        }
    )
    assert "secrets:" not in text(found).replace("/run/secrets:", "")
    assert "- ./secrets/web:/run/secrets:ro" in text(found)
    assert "- /srv/mvd/shop/secrets/web/tls:/etc/ssl/private/key.pem:ro" in text(found)
    assert {(secret.services[0], secret.path) for secret in found.secrets} == {
        ("web", "/srv/mvd/shop/secrets/web/token"),
        ("web", "/srv/mvd/shop/secrets/web/tls"),
        ("worker", "/srv/mvd/shop/secrets/worker/token"),
    }
    assert f"install -m 444 {importing.project}/token.txt /srv/mvd/shop/secrets/web/token" in report(found)
    assert [*found.files] == ["compose.yaml"]


def test_secrets_with_the_same_file_name_stay_apart(importing: Importing) -> None:
    found = importing.written(
        {
            "a/key.pem": "one",
            "b/key.pem": "two",
            "compose.yaml": """\
                services:
                  web:
                    image: postgres
                    environment: {POSTGRES_PASSWORD: hunter2!}
                    secrets:
                      - {source: one, target: /etc/a/key.pem}
                      - {source: two, target: /etc/b/key.pem}
                      - {source: three, target: one}
                      - {source: POSTGRES_PASSWORD, target: /etc/c}
                secrets:
                  one: {file: a/key.pem}
                  two: {file: b/key.pem}
                  three: {file: three}
                  POSTGRES_PASSWORD: {file: four}
                """,
        }
    )
    folder = "/srv/mvd/shop/secrets/web"
    assert {(str(secret.origin), secret.path) for secret in found.secrets} == {
        ("a/key.pem", f"{folder}/2-one"),
        ("b/key.pem", f"{folder}/two"),
        ("three", f"{folder}/one"),
        ("four", f"{folder}/2-POSTGRES_PASSWORD"),
        ("compose.yaml:4", f"{folder}/POSTGRES_PASSWORD"),
    }
    assert f"- {folder}/2-one:/etc/a/key.pem:ro" in text(found)
    assert f"- {folder}/two:/etc/b/key.pem:ro" in text(found)


def test_a_secret_is_copied_from_the_file_that_compose_reads(importing: Importing) -> None:
    found = importing.written(
        {
            ".env": "WHERE=./hidden\n",
            "sub/compose.yaml": "services: {web: {image: a, secrets: [a, b, c]}}\n"
            "secrets: {a: {file: a.txt}, b: {file: ~/b.txt}, c: {file: '${WHERE}/c.txt'}}\n",
            "compose.yaml": "include: [sub/compose.yaml]\n",
        }
    )
    sources = {
        "a": f"{importing.project}/sub/a.txt",
        "b": f"{importing.source.home}/b.txt",
        "c": f"{importing.project}/sub/hidden/c.txt",
    }
    for name, source in sources.items():
        assert f"install -m 444 {source} /srv/mvd/shop/secrets/web/{name}\n" in report(found)


def test_a_secret_of_swarm_becomes_a_file_of_the_host(importing: Importing) -> None:
    found = importing.written("services: {web: {image: a, secrets: [x]}}\nsecrets: {x: {external: true}}\n")
    assert text(found) == "services: {web: {image: a, volumes: [./secrets/web:/run/secrets:ro]}}\n"


def test_a_folder_of_the_project_with_that_name_keeps_it(importing: Importing) -> None:
    found = importing.written(
        "services: {db: {image: mysql, environment: {MYSQL_PASSWORD: ab-1}, volumes: ['./secrets:/s']}}\n"
    )
    assert "./app-secrets/db:/run/secrets:ro" in text(found)


def test_a_secret_that_is_none_stays_in_git(importing: Importing) -> None:
    found = importing.written(
        {
            "motd.txt": "hello",
            "compose.yaml": "services: {web: {image: a, secrets: [motd]}}\nsecrets: {motd: {file: motd.txt}}\n",
        },
        not_secret={"motd"},
    )
    assert text(found, "motd.txt") == "hello"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("healthcheck: {test: 'pg -p ${PASSWORD}'}", 'pg -p "$$(cat /run/secrets/PASSWORD)"'),
        ("healthcheck: {test: 'pg \"-p$PASSWORD\"'}", 'pg "-p$$(cat /run/secrets/PASSWORD)"'),
        (
            "healthcheck: {test: [CMD-SHELL, \"PW='$PASSWORD' pg -U 'a b'\"]}",
            """PW="$$(cat /run/secrets/PASSWORD)" pg""",
        ),
        ("healthcheck: {test: [CMD, pg, '-p${PASSWORD}', 'a b']}", "pg \"-p$$(cat /run/secrets/PASSWORD)\" 'a b'"),
        ("command: [sh, -ec, 'pg -p $PASSWORD']", 'pg -p "$$(cat /run/secrets/PASSWORD)"'),
        ("command: sh -c 'pg -p $PASSWORD'", "sh -c 'pg -p $$(cat /run/secrets/PASSWORD)'"),
    ],
)
def test_a_shell_in_the_container_reads_the_secret_of_a_command(
    importing: Importing, written: str, wanted: str
) -> None:
    found = importing.written(
        {".env": "PASSWORD=hunter2!\n", "compose.yaml": f"services:\n  db:\n    image: acme/db\n    {written}\n"}
    )
    key = written.partition(":")[0]
    assert wanted in shell_text(text(found), key)
    assert found.secrets[0].path == "/srv/mvd/shop/secrets/db/PASSWORD"


def shell_text(file: str, key: str) -> str:
    """The text for a shell in the command or health check of `db`."""
    value = yaml.safe_load(file)["services"]["db"][key]
    value = value["test"] if isinstance(value, dict) else value
    return value if isinstance(value, str) else value[-1]


def test_an_image_that_runs_any_command_gets_a_shell(importing: Importing) -> None:
    found = importing.written(
        {
            ".env": "PASSWORD=hunter2!\n",
            "compose.yaml": "services: {r: {image: 'redis:7', command: redis-server --requirepass $PASSWORD}}",
        }
    )
    assert "exec docker-entrypoint.sh redis-server --requirepass" in text(found)
    file = "services: {r: {image: 'redis:7', command: redis-server --requirepass hunter2!}} # hunter2!"
    literal = importing.plan(file, app="other")
    assert literal.complete
    assert "hunter2" not in text(literal) + report(literal)
    assert "$$(cat /run/secrets/PASSWORD)" in text(found)


def test_a_secret_that_moved_to_a_file_is_read_from_there_by_the_health_check(importing: Importing) -> None:
    found = importing.written(
        """\
        services:
          db:
            image: mysql:8
            environment: {MYSQL_ROOT_PASSWORD: hunter2!}
            healthcheck: {test: 'mysqladmin ping -p$$MYSQL_ROOT_PASSWORD'}
        """
    )
    assert '-p\\"$$(cat /run/secrets/MYSQL_ROOT_PASSWORD)\\"' in text(found) or '-p"$$(cat' in text(found)


@pytest.mark.parametrize(
    "written",
    [
        "command: [serve, --password, hunter2!]",
        "command: serve --token ${TOKEN}",
        "labels: ['auth=admin:$$apr1$$ruca84Hq$$mbjdMZBAG.KWn7vfN']",
        "labels: {url: 'http://a:hunter2!@b'}",
        "hostname: $TOKEN",
        "labels: {com.example.password: hunter2hunter2}",
        "labels: ['com.example.password=hunter2hunter2']",
        "logging: {options: {splunk-token: hunter2hunter2}}",
        "x-legacy: {DB_PASSWORD: hunter2hunter2}",
        "x-passwords: [hunter2hunter2]",
        "x-password: hunter2hunter2",
        "labels: {com.example.password: 02222222}",
    ],
)
def test_a_secret_that_nothing_can_mend_is_told_and_nothing_is_written(importing: Importing, written: str) -> None:
    found = importing.plan(
        {".env": "TOKEN=abc-123\n", "compose.yaml": f"services:\n  web:\n    image: a\n    {written}\n"}
    )
    (problem,) = problems(found)
    assert problem.startswith("compose.yaml:4: services.web.")
    assert "--not-secret" in problem
    assert not found.complete
    printed = report(found) + str(as_json(found, Request(found.root), "", written=False))
    assert "hunter2" not in printed
    assert "02222222" not in printed


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ('configs: {c: {content: "A=1\\nAPI_TOKEN=hunter5hunter5\\n"}}', "configs.c"),
        ('configs: {c: {content: "# a\\npassword hunter5hunter5"}}', "configs.c"),
        ("volumes: {d: {driver_opts: {password: hunter5hunter5}}}", "volumes.d"),
        ("x-legacy: {DB_PASSWORD: hunter5hunter5}", "x-legacy"),
        ("x-legacy: [{environment: ['DB_PASSWORD=hunter5hunter5']}]", "x-legacy"),
        ("x-api-token: hunter5hunter5", "x-api-token"),
        ("x-link: 'postgres://u:hunter5hunter5@db'", "x-link"),
    ],
)
def test_a_secret_of_the_top_level_is_told_unless_somebody_says_that_it_is_none(
    importing: Importing, written: str, answer: str
) -> None:
    compose = f"services: {{web: {{image: a}}}}\n{written}\n"
    found = importing.plan(compose)
    (problem,) = problems(found)
    assert problem.startswith(f"compose.yaml:2: {answer}: ")
    assert problem.endswith(f"--not-secret {answer}")
    assert "hunter5" not in report(found)
    assert text(importing.written(compose, not_secret={answer})) == compose


def test_what_services_take_from_the_top_level_is_dealt_with_there(importing: Importing) -> None:
    found = importing.written(
        """\
        x-base: &base
          environment: &env {DB_PASSWORD: hunter2hunter2}
          labels: &labels {com.example.password: hunter3hunter3}
        x-list: &list [API_TOKEN=hunter4hunter4]
        x-test: &test [CMD, ping, --password, hunter5hunter5]
        services:
          web: {<<: *base, image: a}
          worker: {image: b, environment: *env, labels: {<<: *labels}}
          third: {image: c, environment: *list, healthcheck: {test: *test}}
        """,
        not_secret={"web.labels"},
    )
    assert "hunter3hunter3" in text(found)
    for secret in ("hunter2", "hunter4", "hunter5"):
        assert secret not in text(found)


def test_names_that_only_have_such_a_word_are_no_secrets(importing: Importing) -> None:
    compose = """\
services:
  web:
    image: a
    labels:
      traefik.http.routers.secret-app.rule: Host(`a.example.org`)
      com.example.password: ${PW_HINT:-}
      com.example.auth: basic
    extra_hosts: [token=10.0.0.1]
    networks: {credentials: {aliases: [a]}}
configs:
  c: {content: "# requirepass foobared\\npassword_file = /run/secrets/a\\n"}
networks:
  credentials: {}
"""
    assert text(importing.written(compose)) == compose


def test_a_label_file_is_no_place_for_a_secret(importing: Importing) -> None:
    labels = "com.example.color=red\ncom.example.password=hunter2hunter2\ncom.example.secret-app.rule=a\n"
    files = {"compose.yaml": "services: {web: {image: a, label_file: web.labels}}", "web.labels": labels}
    found = importing.plan(files)
    (problem,) = problems(found)
    assert problem.startswith("web.labels:2: com.example.password: a label is no place for a secret: its name has PASS")
    assert list(found.keepable) == ["com.example.password"]
    assert "hunter2" not in report(found)
    assert text(importing.written(files, not_secret={"com.example.password"}), "web.labels") == labels


def test_the_same_text_may_be_a_name_and_a_password(importing: Importing) -> None:
    found = importing.written(
        "services: {web: {image: a, environment: {DB_USER: shop-1, DB_PASSWORD: shop-1, ADMIN: pa55w, KEY_PW: pa55w}}}"
    )
    assert "{DB_USER: shop-1, DB_PASSWORD: null, ADMIN: pa55w, KEY_PW: null}" in text(found)


def test_what_may_be_in_git_is_kept_where_somebody_says_so(importing: Importing) -> None:
    file = "services:\n  web:\n    image: a\n    command: serve --token ${TOKEN}\n    labels: {url: 'http://a:hunter2!@b'}\n"
    found = importing.written({".env": "TOKEN=abc-123\n", "compose.yaml": file}, not_secret={"TOKEN", "web.labels"})
    assert text(found) == file
    assert text(found, ".env") == "TOKEN=abc-123\n"


# ---- mounts ----------------------------------------------------------------------------------------------------------


def test_configuration_comes_into_git_and_data_stays_on_the_host(importing: Importing) -> None:
    found = importing.written(
        {
            "compose.yaml": """\
                services:
                  web:
                    image: nginx
                    volumes:
                      - ./nginx.conf:/etc/nginx/nginx.conf:ro
                      - ./conf.d:/etc/nginx/conf.d
                      - ./app.db:/app/app.db
                      - ./data:/data
                      - ./new:/new
                      - {type: bind, source: ./static, target: /srv/static, read_only: true}
                """,
            "nginx.conf": "events {}\n",
            "conf.d/a.conf": "server {}\n",
            "conf.d/sub/b.conf": "server {}\n",
            "app.db": "x",
            "data/x": "x",
            "static/a.css": "x",
        }
    )
    assert [*found.files] == ["compose.yaml", "conf.d/a.conf", "conf.d/sub/b.conf", "nginx.conf", "static/a.css"]
    assert [(it.folder, it.kind) for it in found.data] == [
        ("app.db", "a file"),
        ("data", "a folder"),
        ("new", "missing"),
    ]
    assert f"cp -a {importing.project}/data/. /srv/mvd/shop/data/" in report(found)
    assert "./conf.d is read-only now" in report(found)
    assert "- /srv/mvd/shop/app.db:/app/app.db" in text(found)


def test_what_one_service_writes_the_host_keeps_for_all(importing: Importing) -> None:
    found = importing.written(
        {
            "compose.yaml": """\
                services:
                  app: {image: a, volumes: ['./html:/var/www/html', './html/conf.php:/conf.php:ro']}
                  web: {image: b, volumes: ['./html:/var/www/html:ro']}
                """,
            "html/index.php": "<?php",
            "html/conf.php": "<?php",
        }
    )
    assert [*found.files] == ["compose.yaml"]
    assert {it.folder for it in found.data} == {"html", "html/conf.php"}


def test_paths_of_a_home_become_folders_of_the_app(importing: Importing) -> None:
    found = importing.written(
        """\
        services:
          web:
            image: a
            volumes:
              - ~/photos:/photos
              - "/home/max/docker/web/config:/config:z"
              - ${HOME}/photos2:/p2
              - ../beside:/beside
        """
    )
    assert [it.folder for it in found.data] == ["photos", "config", "photos2", "beside"]
    for line in ("- ./photos:/photos", '- "./config:/config:z"', "- ./photos2:/p2", "- ./beside:/beside"):
        assert line in text(found)


def test_paths_of_the_server_stay_and_are_told(importing: Importing) -> None:
    compose = (
        "services: {web: {image: a, volumes: ['/mnt/media:/media', '/var/run/docker.sock:/var/run/docker.sock']}}\n"
    )
    found = importing.written(compose)
    assert text(found) == compose
    assert "/mnt/media is a path of the server" in report(found)
    assert "may command the whole server" in report(found)


def test_a_path_made_of_variables_is_followed(importing: Importing) -> None:
    found = importing.written(
        {
            ".env": "ROOT=~/docker\nHERE=./data\n",
            "compose.yaml": "services: {web: {image: a, volumes: ['${ROOT}/web:/web', '${HERE:-./x}:/data']}}",
        }
    )
    assert "volumes: ['./web:/web', '${HERE:-./x}:/data']" in text(found)
    assert [it.folder for it in found.data] == ["web", "data"]


def test_a_file_with_a_secret_stays_out_of_git(importing: Importing) -> None:
    files = {
        "alert.yml": "smtp:\n  auth_password: hunter2!\n",
        "id": "-----BEGIN " + "RSA PRIVATE KEY-----\nabc\n",
        "app.ini": "; password = example\nuser = shop\npassword_file = /run/secrets/x\n",
        "redis.conf": "# requirepass foobared\n",
        "old.conf": "# old: postgres://u:hunter2!@h/db\n",
        "old.sql": "-- ghp_" + "a1" * 18 + "\n",
        "a.json": '{"user": "a", "password": "hunter2!"}',
        "b.json": '{"password": "$PASSWORD", "secret":"hunter2!"}',
    }
    mounts = ", ".join(f"'./{name}:/etc/{name}:ro'" for name in files)
    found = importing.written({"compose.yaml": f"services: {{web: {{image: a, volumes: [{mounts}]}}}}", **files})
    assert [*found.files] == ["app.ini", "compose.yaml", "redis.conf"]
    assert "alert.yml has a secret in it: line 2: " in report(found)
    assert "/srv/mvd/shop/alert.yml:/etc/alert.yml:ro" in text(found)


def test_the_whole_project_becomes_a_folder_of_the_host(importing: Importing) -> None:
    found = importing.written("services: {web: {image: a, volumes: ['.:/app', './data:/data']}}")
    assert "volumes: ['./project:/app', './data:/data']" in text(found)


def test_a_folder_of_the_host_does_not_hide_a_file_of_git(importing: Importing) -> None:
    found = importing.written(
        {
            "compose.yaml": "services: {g: {image: a, env_file: g/g.env, volumes: ['./g:/var/lib/g']}}",
            "g/g.env": "A=1\n",
        }
    )
    assert "volumes: ['./g-data:/var/lib/g']" in text(found)
    assert text(found, "g/g.env") == "A=1\n"


def test_an_env_file_that_is_mounted_too_keeps_what_no_compose_file_uses(importing: Importing) -> None:
    env = "# of the program\nTAG=1\nCOLOR=red\n"
    found = importing.written(
        {"compose.yaml": "services: {web: {image: 'a:$TAG', volumes: ['./.env:/app/.env:ro']}}", ".env": env}
    )
    assert text(found, ".env") == env
    assert "volumes: ['./.env:/app/.env:ro']" in text(found)


@pytest.mark.parametrize("name", ["base.yaml", "override.yaml", "compose.yaml"])
def test_a_file_does_not_lose_its_place_to_a_compose_file_of_that_name(importing: Importing, name: str) -> None:
    compose = f"services: {{web: {{image: a, volumes: ['./{name}:/app.yaml:ro'], configs: [c]}}}}\n"
    found = importing.written(
        {
            ".env": "COMPOSE_FILE=a.yml:b.yml",
            "a.yml": f"{compose}configs: {{c: {{file: {name}}}}}\n",
            "b.yml": "services: {web: {restart: always}}",
            name: "mine: true\n",
        }
    )
    other = name.replace(".", "-2.")
    assert text(found, other) == "mine: true\n"
    assert f"'./{other}:/app.yaml:ro'" in text(found, "base.yaml")
    assert f"file: ./{other}" in text(found, "base.yaml")
    assert "include:" in text(found)


def test_a_compose_file_that_is_mounted_too_is_there_as_it_was(importing: Importing) -> None:
    compose = "version: '3'\nservices: {web: {image: a, volumes: ['./docker-compose.yml:/app/c.yml:ro']}}\n"
    found = importing.written({"docker-compose.yml": compose})
    (copy,) = found.files.keys() - {"compose.yaml"}
    assert text(found, copy) == compose
    assert f"./{copy}:/app/c.yml:ro" in text(found)
    assert "version" not in text(found)


def test_folders_of_the_same_name_from_two_places_do_not_mix(importing: Importing) -> None:
    found = importing.written(
        {
            "compose.yaml": "services: {web: {image: a, volumes: ['../conf:/a:ro', './conf/x.txt:/b:ro', "
            "'./conf/y.txt:/c:ro']}}",
            "../conf/x.txt": "theirs",
            "conf/x.txt": "x",
            "conf/y.txt": "y",
        }
    )
    assert {name: it.content for name, it in found.files.items() if name != "compose.yaml"} == {
        "conf/x.txt": b"theirs",
        "conf-2/x.txt": b"x",
        "conf-2/y.txt": b"y",
    }


def test_configs_come_along(importing: Importing) -> None:
    found = importing.written(
        {
            "compose.yaml": "services: {web: {image: a, configs: [c, d]}}\n"
            "configs: {c: {file: ./c.txt}, d: {file: ../d/d.txt}}\n",
            "c.txt": "c",
            "../d/d.txt": "d",
        }
    )
    assert {*found.files} == {"compose.yaml", "c.txt", "d/d.txt"}
    assert "d: {file: ./d/d.txt}" in text(found)


def test_a_script_stays_executable(importing: Importing) -> None:
    write(importing.project, {"run.sh": "#!/bin/sh\n"}).joinpath("run.sh").chmod(0o755)
    found = importing.written("services: {web: {image: a, volumes: ['./run.sh:/run.sh:ro']}}")
    assert found.files["run.sh"].executable
    assert (importing.repository / "apps/shop/run.sh").stat().st_mode & 0o777 == 0o755


# ---- variables -------------------------------------------------------------------------------------------------------

UNSET = """\
services:
  web:
    image: a:${TAG}
    environment: {A: '${B}x', C: '${D:-d}'}
    command: sh -c 'echo $$E $F'
"""


def test_variables_without_a_value_are_asked_for_all_at_once(importing: Importing) -> None:
    found = importing.plan(UNSET)
    assert [(it.name, str(it.places[0])) for it in found.questions] == [
        ("B", "compose.yaml:4"),
        ("F", "compose.yaml:5"),
        ("TAG", "compose.yaml:3"),
    ]
    assert problems(found) == []
    assert "--set B=VALUE --set F=VALUE --set TAG=VALUE" in report(found)
    assert "write $$F in the file if a shell in the container is to read it" in report(found)


def test_the_report_shows_how_a_secret_of_a_variable_comes_from_the_host(importing: Importing) -> None:
    found = importing.plan("services: {web: {image: me/own:1, environment: {DB_PASSWORD: s3cr3t-Pa55}}}")
    assert 'write `DB_PASSWORD: "{file://shop.DB_PASSWORD}"` in `environment`' in report(found)
    assert "install -m 600 /dev/stdin /etc/gitops-mvd/secrets/shop.DB_PASSWORD" in report(found)


def test_answers_go_into_the_variables_of_the_app(importing: Importing) -> None:
    found = importing.written({"compose.yaml": UNSET, ".env": "X=1"}, values={"TAG": "1", "B": "it's a b", "F": ""})
    assert text(found) == UNSET
    assert text(found, ".env") == 'TAG=1\nB="it\'s a b"\nF=\n'


def test_an_empty_variable_is_written_as_such(importing: Importing) -> None:
    found = importing.written(UNSET.replace("a:${TAG}", "a"), unset_empty=True)
    assert "environment: {A: '${B:-}x', C: '${D:-d}'}" in text(found)
    assert "echo $$E ${F:-}'" in text(found)


def test_a_variable_that_compose_itself_requires_is_never_empty(importing: Importing) -> None:
    found = importing.plan("services: {web: {image: 'a:${TAG:?which one}'}}", unset_empty=True)
    assert [it.name for it in found.questions] == ["TAG"]


def test_a_secret_is_not_taken_from_the_command_line(importing: Importing) -> None:
    (problem,) = problems(
        importing.plan("services: {web: {image: a, hostname: $API_KEY}}", values={"API_KEY": "abc-123"})
    )
    assert "--set API_KEY would write a secret into Git" in problem
    assert "abc-123" not in problem


def test_a_value_with_a_password_is_not_taken_from_the_command_line(importing: Importing) -> None:
    values = {"LINK": "postgres://u:hunter2@h/db", "TAG": "1"}
    found = importing.plan("services: {web: {image: 'a:$TAG$NO', hostname: $LINK}}", values=values)
    assert "--set LINK would write a secret into Git" in problems(found)[0]
    request = Request(found.root, values=values)
    printed = "\n".join([*refusal(found, request), str(as_json(found, request, "", written=False))])
    assert "--set TAG=1" in printed
    assert "hunter2" not in printed
    assert importing.plan(values=values, not_secret={"LINK"}).files[".env"].content.count(b"hunter2") == 1


# ---- what the reader refuses -----------------------------------------------------------------------------------------


def test_texts_that_yaml_reads_otherwise_get_quotes(importing: Importing) -> None:
    found = importing.written("services:\n  web:\n    image: a\n    environment: {V: 1.10, D: 2024-06-01, N: 5}\n")
    assert 'environment: {V: "1.1", D: "2024-06-01", N: 5}' in text(found)
    assert 'compose.yaml:4: 1.10 → "1.1"' in changes(found)


def test_keys_without_an_effect_are_removed(importing: Importing) -> None:
    found = importing.written(
        """\
        version: "3.8"
        services:
          web:
            image: a
            develop: {watch: []}
            deploy:
              endpoint_mode: vip
              resources: {limits: {memory: 1g}}
            pull_policy: daily
          db:
            image: b
            deploy: {placement: {constraints: [node.role == manager]}}
            pull_policy: build
            depends_on: {web: {condition: service_started, restart: true}}
        """
    )
    assert text(found) == (
        "services:\n"
        "  web:\n"
        "    image: a\n"
        "    deploy:\n"
        "      resources: {limits: {memory: 1g}}\n"
        "    pull_policy: always\n"
        "  db:\n"
        "    image: b\n"
        "    depends_on: {web: {condition: service_started}}\n"
    )


def test_an_order_that_a_port_forbids_is_removed(importing: Importing) -> None:
    found = importing.written(
        """\
        x-deploy: &deploy
          update_config: {order: start-first}
          restart_policy: {condition: any}
        services:
          web:
            image: a
            ports: ["80:80"]
            deploy:
              <<: *deploy
        """
    )
    assert "update_config" not in text(found)
    assert "restart_policy" in text(found)


def test_mistakes_are_told_at_their_lines_in_the_project_all_at_once(importing: Importing) -> None:
    found = importing.plan(
        {
            "docker-compose.yml": """\
                version: "3"
                services:
                  web:
                    build: .
                    imgae: a
                    environment: {TOKEN: abc-123, 5: x}
                  db:
                    image: b
                    volumes_from: [web]
                    env_file: [db.env]
                """,
            "db.env": "A B=1\n",
        },
        images={"web": "a"},
    )
    found_problems = problems(found)
    assert any(
        problem.startswith("docker-compose.yml:5: services.web.imgae: unknown key") for problem in found_problems
    )
    assert any(problem.startswith("docker-compose.yml:9: services.db.volumes_from: ") for problem in found_problems)
    assert any(problem.startswith("db.env:1: ") for problem in found_problems)
    assert not found.complete


def test_a_mistake_that_was_there_before_is_not_the_imports(importing: Importing) -> None:
    write(importing.repository, {"apps/old/compose.yaml": "services: {web: {imgae: a}}"})
    assert importing.plan(PLAIN).complete


def test_a_port_of_another_app_is_told(importing: Importing) -> None:
    write(importing.repository, {"apps/old/compose.yaml": "services: {web: {image: a, ports: ['80:8080']}}"})
    (problem,) = problems(importing.plan(PLAIN))
    assert problem.startswith("compose.yaml:7: services.web.ports[0]: ")


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_an_operator_is_told_what_the_server_must_have(importing: Importing) -> None:
    found = importing.written(
        """\
        services:
          web:
            image: a
            ports: ["8080:80", "127.0.0.1:53:53/udp"]
            privileged: true
            network_mode: bridge
            volumes: [/cache, data:/data, shared:/shared]
            profiles: [debug]
          vpn: {image: b, networks: [proxy]}
        networks: {proxy: {external: true}}
        volumes: {data: , shared: {external: true, name: everybodys}}
        """
    )
    told = report(found)
    for line in (
        "web has the host's ports 53 and 8080",
        "web reaches out of its container",
        "/cache is an anonymous volume",
        "web is off",
        "docker network create proxy",
        "docker volume create everybodys",
        "docker run --rm -v shop_data:/from:ro",
    ):
        assert line in told


def test_every_change_has_a_place_and_a_reason(importing: Importing) -> None:
    found = importing.written(
        {
            ".env": "TOKEN=abc-123\n",
            "compose.yaml": "version: '3'\n"
            "services: {web: {image: a, build: ., environment: {T: $TOKEN}, volumes: ['~/x:/x']}}\n",
        }
    )
    assert len(found.changes) >= 5
    assert all(change.at.file and change.at.line and change.what and change.why for change in found.changes)


def test_a_raw_env_file_is_read_as_it_stands(importing: Importing) -> None:
    files = {
        "compose.yaml": "services: {web: {image: nginx, env_file: {path: raw.env, format: raw}}}",
        "raw.env": "PRICE=$5 \"each\"\nDB_PASSWORD='hunter22' # a\nNAME=${DB_PASSWORD}\n",
    }
    found = importing.written(files)
    assert text(found, "raw.env") == 'PRICE=$5 "each"\nDB_PASSWORD\nNAME=${DB_PASSWORD}\n'


def test_a_folder_comes_into_git_without_what_a_program_writes_in_it(importing: Importing) -> None:
    files = {
        "compose.yaml": """\
            services:
              web: {image: nginx, volumes: ["./conf:/etc/nginx:ro"]}
              db: {image: mysql, volumes: ["./conf/data:/var/lib/mysql"], environment: [MYSQL_DATABASE=a]}
        """,
        "conf/nginx.conf": "events {}\n",
        "conf/data/ibdata1": "rows",
    }
    found = importing.written(files)
    assert "conf/nginx.conf" in found.files
    assert not [name for name in found.files if "data" in name]
