"""What images are known to do: read a variable from a file (`POSTGRES_PASSWORD_FILE`), hand on any command.  Pure.

Facts of the images' own documentation.  An image that is not in this table may do so, too; nobody can tell from its
name.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class _Image(NamedTuple):
    """`variables` are those that may be in a file; `form` is the name of the variable that then has the path."""

    names: str
    variables: str
    form: str = "{}_FILE"


_IMAGES = tuple(
    (re.compile(image.names), re.compile(image.variables), image.form)
    for image in (
        _Image(
            r"postgres|postgis/postgis|pgvector/pgvector|timescale/timescaledb(-ha)?|imresamu/postgis|"
            r"tensorchord/(pgvecto-rs|vchord-postgres)|ghcr\.io/immich-app/postgres",
            r"POSTGRES_(PASSWORD|USER|DB)",
        ),
        _Image(r"mysql|mariadb|percona|mysql/mysql-server", r"(MYSQL|MARIADB)_(ROOT_)?(PASSWORD|USER|DATABASE)"),
        _Image(r"mongo", r"MONGO_INITDB_ROOT_(USERNAME|PASSWORD)"),
        _Image(r"wordpress", r"WORDPRESS_\w+"),
        _Image(
            r"nextcloud",
            r"(POSTGRES|MYSQL)_(PASSWORD|USER|DB|DATABASE)|NEXTCLOUD_ADMIN_(USER|PASSWORD)|"
            r"(REDIS_HOST|SMTP)_PASSWORD|OBJECTSTORE_S3_(KEY|SECRET)",
        ),
        _Image(r"joomla", r"JOOMLA_DB_PASSWORD"),
        _Image(r"phpmyadmin(/phpmyadmin)?", r"PMA_PASSWORD|MYSQL_(ROOT_)?PASSWORD"),
        _Image(r"influxdb", r"DOCKER_INFLUXDB_INIT_(PASSWORD|ADMIN_TOKEN|USERNAME)"),
        _Image(r"qmcgaw/gluetun", r"WIREGUARD_(PRIVATE|PRESHARED)_KEY|OPENVPN_(USER|PASSWORD)", "{}_SECRETFILE"),
        _Image(r"grafana/grafana(-oss|-enterprise)?", r"GF_\w+", "{}__FILE"),
        _Image(r"gitea/gitea|docker\.gitea\.com/gitea", r"GITEA__\w+", "{}__FILE"),
        _Image(r"codeberg\.org/forgejo/forgejo", r"FORGEJO__\w+", "{}__FILE"),
        _Image(r"(quay\.io/)?minio/minio", r"MINIO_(ROOT_USER|ROOT_PASSWORD|ACCESS_KEY|SECRET_KEY)"),
        _Image(r"(ghcr\.io/dani-garcia/|vaultwarden/)(server|vaultwarden)", r"\w+"),
        _Image(r"(lscr\.io/|ghcr\.io/)?linuxserver/\S+", r"\w+", "FILE__{}"),
        _Image(r"(ghcr\.io/)?paperless-?ngx/paperless-?ngx", r"PAPERLESS_\w+"),
        _Image(r"ghcr\.io/immich-app/immich-server", r"DB_(PASSWORD|URL|USERNAME|DATABASE_NAME)|REDIS_PASSWORD"),
        _Image(r"(docker\.n8n\.io/)?n8nio/n8n", r"(DB|N8N)_\w+"),
        _Image(r"dpage/pgadmin4", r"PGADMIN_DEFAULT_PASSWORD"),
        _Image(r"miniflux/miniflux|ghcr\.io/miniflux/miniflux", r"DATABASE_URL|ADMIN_PASSWORD"),
        _Image(r"zabbix/zabbix-\S+", r"(MYSQL|POSTGRES)_(ROOT_)?(PASSWORD|USER)"),
        _Image(
            r"(public\.ecr\.aws/)?bitnami(legacy)?/(postgresql|mysql|mariadb|mongodb|redis|rabbitmq|wordpress)\S*",
            r"\w+_PASSWORD",
        ),
    )
)
_HANDS_ON = re.compile(
    r"redis|valkey/valkey|postgres|postgis/postgis|pgvector/pgvector|mysql|mariadb|mongo|memcached|rabbitmq"
)
_OFFICIAL = re.compile(r"^(?:(?:index\.)?docker\.io/)?(?:library/)?")


def file_variable(image: str, variable: str) -> str:
    """The variable in which an image looks for the path of a file with the value of `variable`; "" if unknown."""
    name = repository(image)
    for names, variables, form in _IMAGES:
        if names.fullmatch(name) and variables.fullmatch(variable):
            return form.format(variable)
    return ""


def entry_point(image: str) -> str:
    """The entry point of an image that runs whatever it is given; "" if it is not known to."""
    return "docker-entrypoint.sh" if _HANDS_ON.fullmatch(repository(image)) else ""


def repository(image: str) -> str:
    """The name of an image without tag, digest and Docker Hub's own host."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return _OFFICIAL.sub("", head + slash + last.partition(":")[0])
