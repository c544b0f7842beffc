"""Where gitops-mvd means to differ from compose-go, and why; everything else is a finding."""

from __future__ import annotations

import re

import yaml

from tests.oracle.client import Asked

VALUES: tuple[tuple[str, str, str], ...] = (
    (r"\.replicas$", r"mode: global", "it is one instance on each host, which Compose does not know"),
    (r"\.environment$", r"!reset", "it takes a variable away from a list, too"),
)
"""Values of both that differ, by their path and by what stands in the file."""

REFUSED: tuple[tuple[str, str], ...] = (
    (r"can't set distinct values on", "a limit that is left out below `deploy` is none of another value"),
    (r"resources\.\S+\.memory must be a string", "a number of bytes is a size"),
    (r"container_name '.' does not match", "a name of one letter is a name"),
    (r"cannot override services\.\S+\.gpus", "`all` is a list of one request"),
    (r"cannot override services\.\S+\.x-", "extensions of others are not read"),
    (r"services\.\S+\.build\S* ", "what stands beside an image to build it is not read"),
    (r"unsupported env_file format \"raw\"", "docker compose knows it, and compose-go does not"),
    (r"services\.\S+\.cpu_\w+: failed to cast", "the Compose Specification has durations there, too"),
    (r"(pull_policy|container_name) '' does not match", "an empty string is as if the key was not there"),
    (
        r"(cgroup|order|selinux|recursive|condition) value must be one of",
        "an empty string is as if the key was not there",
    ),
    (r"stop_grace_period must be a string|invalid duration \"0", "0 is a duration"),
    (r"non-string key", "a key is the text that it is written as"),
    (r"additional properties '' not allowed|items at \d+ and \d+ are equal", "what stands there twice counts once"),
    (r"invalid size: '[0-9.]+i'|invalid suffix: '[kmgt]?i'", "512Mi is what Kubernetes calls it"),
)
"""What compose-go alone refuses, by its message."""

_OF_ONE_FILE = re.compile(r"validating |error while interpolating |services\.\S+ must be a mapping")
_WANTED = re.compile(r"(?:validating \S+: )?(\S+) must be an? ")


def why_different(path: str, asked: Asked) -> str:
    """The reason why a value differs; "" if it should not."""
    text = "".join(asked.files[file] for file in asked.compose)
    return next((why for at, there, why in VALUES if re.search(at, path) and re.search(there, text)), "")


def why_accepted(error: str, asked: Asked) -> str:
    """The reason why gitops-mvd takes what compose-go refuses; "" if it should not."""
    if why := next((why for pattern, why in REFUSED if re.search(pattern, error)), ""):
        return why
    if wanted := _WANTED.search(error):
        nodes = [_composed(text) for path, text in asked.files.items() if path.endswith(".yaml")]
        if any(_has_empty(node, wanted[1].split(".")[-1]) for node in nodes):
            return "a key without a value is as if it was not there"
    if len(asked.compose) > 1 and _OF_ONE_FILE.match(error):
        return "only what becomes of all files together is checked"
    return ""


def _composed(text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text)
    except yaml.YAMLError:  # in a file that no app uses
        return None
    return node


def _has_empty(node: yaml.Node | None, name: str) -> bool:
    """Is that key somewhere in a file, with no value behind it?"""
    if isinstance(node, yaml.MappingNode):
        empty = any(key.value == name and value.tag == "tag:yaml.org,2002:null" for key, value in node.value)
        return empty or any(_has_empty(value, name) for _, value in node.value)
    return isinstance(node, yaml.SequenceNode) and any(_has_empty(item, name) for item in node.value)
