"""Which logging driver a container gets, and with which options."""

from gitops_mvd.core.compose import log_config


def test_the_journal_gets_the_log_unless_a_driver_is_named() -> None:
    assert log_config({}) == ("journald", {})
    assert log_config({"logging": {"driver": "syslog", "options": {"tag": "a"}}}) == ("syslog", {"tag": "a"})
    assert log_config({"logging": {"driver": "none", "options": {"max-size": "1m"}}}) == ("none", {"max-size": "1m"})


def test_limits_of_log_files_do_not_reach_the_journal() -> None:
    options = {"max-size": "10m", "max-file": "3", "compress": "true", "tag": "{{.Name}}", "mode": "non-blocking"}
    kept = {"tag": "{{.Name}}", "mode": "non-blocking"}
    assert log_config({"logging": {"driver": "", "options": options}}) == ("journald", kept)
    assert log_config({"logging": {"driver": "local", "options": options}}) == ("local", options)
