"""Which logging driver a container gets, and with which options."""

from gitops_mvd.core.compose import log_config
from gitops_mvd.core.model import Service
from gitops_mvd.docker.create import Place, log_config_of

OURS = "io.gitops-mvd.app,io.gitops-mvd.service,io.gitops-mvd.revision"


def made(driver: str, follows: str = "", **options: str) -> dict[str, str]:
    """The options of the container of a service that names that driver."""
    service = Service("web", "nginx", {"logging": {"driver": driver, "options": options}})
    config: dict[str, str] = log_config_of("shop", service, Place("/f", "/s", follows=follows, revision="1a2b3c4"))[
        "Config"
    ]
    return config


def test_the_engine_puts_app_service_and_revision_beside_each_line() -> None:
    assert made("", follows="systemd") == {"tag": "shop/web", "labels": OURS}
    assert made("gelf", tag="web") == {"tag": "web", "labels": OURS}
    assert made("json-file", labels="team")["labels"] == f"team,{OURS}"


def test_syslog_has_a_tag_alone_and_so_all_of_it_is_in_the_tag() -> None:
    assert made("syslog") == {"tag": "shop/web/{{.Name}}/1a2b3c4"}
    assert made("syslog", tag="web") == {"tag": "web"}


def test_splunk_has_the_instance_in_the_tag_and_gcplogs_beside_the_labels() -> None:
    assert made("splunk") == {"tag": "shop/web/{{.Name}}/1a2b3c4", "labels": OURS}
    assert made("splunk", tag="") == {"tag": "", "labels": OURS}
    assert made("gcplogs") == {"labels": OURS}


def test_a_driver_that_knows_no_labels_gets_none() -> None:
    assert made("awslogs") == {}
    assert "labels" not in made("local")


def test_the_journal_gets_the_log_unless_a_driver_is_named() -> None:
    assert log_config({}) == ("journald", {})
    assert log_config({"logging": {"driver": "syslog", "options": {"tag": "a"}}}) == ("syslog", {"tag": "a"})
    assert log_config({"logging": {"driver": "none", "options": {"max-size": "1m"}}}) == ("none", {"max-size": "1m"})


def test_limits_of_log_files_do_not_reach_the_journal() -> None:
    options = {"max-size": "10m", "max-file": "3", "compress": "true", "tag": "{{.Name}}", "mode": "non-blocking"}
    kept = {"tag": "{{.Name}}", "mode": "non-blocking"}
    assert log_config({"logging": {"driver": "", "options": options}}) == ("journald", kept)
    assert log_config({"logging": {"driver": "local", "options": options}}) == ("local", options)
