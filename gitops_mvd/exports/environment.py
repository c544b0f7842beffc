"""The environment of a container: what is secret by reference, and all else as it is written.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gitops_mvd.core.model import Service
from gitops_mvd.core.secret_words import PLACE, PLAIN_ANSWER, passwords, secret_name
from gitops_mvd.core.secrets import BEGINS, names_in
from gitops_mvd.exports.names import digest, label
from gitops_mvd.exports.remarks import Body, lost, needs

VALUE = "value"  # the key in a Secret that has one value
_PLAIN_SECRET = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_VARIABLE = re.compile(r"[ -<>-~]+")  # what Kubernetes takes for a name: printable ASCII without `=`
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_REFERENCE = re.compile(r"\{file://([^{}]*)\}")


def secret_object(name: str) -> str:
    """The name of the Secret with what the host has under that name."""
    return name if _PLAIN_SECRET.fullmatch(name) else label(name)


def where(name: str) -> str:
    """Where the value of a secret of the host is."""
    provider, colon, path = name.partition(":")
    if not colon:
        return f"/etc/gitops-mvd/secrets/{name} of the server"
    if provider in ("sops", "sops-raw"):
        file, _, variable = path.partition("#")
        return f"{variable} in {file}, which SOPS decrypts" if variable else f"{file}, which SOPS decrypts"
    return f"{path}, asked of {provider} by the server"


def literal(text: str) -> str:
    """The text, written so that Kubernetes does not take `$(NAME)` in it for a variable."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def is_secret(name: str, value: str) -> bool:
    """Does that value of a variable look like a secret, or have one in it?"""
    named = secret_name(name) and not PLACE.fullmatch(value) and not PLAIN_ANSWER.fullmatch(value)
    return bool(value) and BEGINS not in value and bool(named or any(passwords(value)))


def environment(service: Service, values: Mapping[str, set[str]]) -> tuple[list[Body], Body]:
    """The variables, and remarks; `values` has the secrets of the app, which must not be in any other variable."""
    variables: list[Body] = []
    remarks: Body = {}
    secret_values = [value for some in values.values() for value in some]
    for name, value in sorted(service.environment.items()):
        if not _VARIABLE.fullmatch(name):
            remarks |= lost("environment", f"a variable cannot have the name {name!r}")
            continue
        known = [it for it in names_in(value) if it in service.secrets]
        hidden = is_secret(name, value) or any(secret in value for secret in secret_values)
        if hidden or not _is_text(value):
            variables.append(_from_secret(service, name))
        elif known:
            variables += _referring(name, value)
        else:
            variables.append({"name": name, "value": literal(value)})
    return _once(variables), remarks


def _is_text(value: str) -> bool:
    try:
        return value.encode() is not None
    except UnicodeEncodeError:  # bytes that are no UTF-8, which only a Secret can hold
        return False


def _from_secret(service: Service, name: str) -> Body:
    """A variable whose value is written in the manifest, and looks like a secret."""
    key = name if _KEY.fullmatch(name) else label(name)
    return _reference(name, label(f"{label(service.name)}-env"), key, f"the value of {name} in the Compose file")


def _referring(name: str, value: str) -> Iterator[Body]:
    """A variable that refers to secrets, and before it those that it is put together from."""
    if found := _REFERENCE.fullmatch(value):
        yield _reference(name, secret_object(found[1]), VALUE, where(found[1]))
        return
    parts: dict[str, str] = {}
    for secret in names_in(value):
        part = re.sub("[^A-Z0-9]+", "_", f"SECRET_{secret}".upper()).strip("_")
        parts[secret] = part if _PLAIN_SECRET.fullmatch(secret) and "." not in secret else f"{part}_{digest(secret)}"
        yield _reference(parts[secret], secret_object(secret), VALUE, where(secret))
    pieces = _REFERENCE.split(value)
    text = "".join(f"$({parts[piece]})" if number % 2 else literal(piece) for number, piece in enumerate(pieces))
    yield {"name": name, "value": text}


def _reference(name: str, secret: str, key: str, source: str) -> Body:
    return {
        "name": name,
        "valueFrom": needs(secret, key, source) | {"secretKeyRef": {"name": secret, "key": key}},
    }


def _once(variables: list[Body]) -> list[Body]:
    """Without a second one of the same name: two that refer to one secret have the same part."""
    return [*{variable["name"]: variable for variable in variables}.values()]
