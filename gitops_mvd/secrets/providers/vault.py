"""Vault and OpenBao: the key-value engine, version 2.  A secret is `MOUNT/data/PATH#KEY`.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from gitops_mvd.config.settings.secrets import AppRole, VaultProvider
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.net.adapter import content, session
from gitops_mvd.net.line import limit
from gitops_mvd.net.reasons import reason
from gitops_mvd.secrets.providers import LARGEST_BYTES

ANSWER_WITHIN_SECONDS = 5.0
LARGEST_ANSWER_BYTES = 2 * LARGEST_BYTES
HINTS = {403: "see the policies of its token", 503: "it may be sealed"}


class Vault:
    """Its token is read from its file for each question, or had by the login of an AppRole until that is refused."""

    def __init__(self, options: VaultProvider) -> None:
        self._options = options
        self._session = session()
        self._session.trust_env = False  # no login of a ~/.netrc, and no proxy
        if options.ca_file:
            self._session.verify = options.ca_file
        self._login = ""
        self._lock = threading.Lock()

    def stamp(self, path: str) -> object:
        return time.monotonic() // self._options.interval

    def read(self, path: str) -> bytes:
        path, _, key = path.partition("#")
        where, shown = f"Vault at {self._options.address}", path.replace("/data/", "/", 1)
        if "/data/" not in path or not key:
            raise StepFailed(f"{path} is not a secret of Vault", "name it as MOUNT/data/PATH#KEY")
        status, answer = self._ask(path)
        if status not in (200, 404):
            raise Unavailable(f"{where} answered {status} for {path}", HINTS.get(status, ""))
        found = _inner(answer)
        if found is None:
            raise StepFailed(f"{where} has no secret {path}", f"vault kv put {shown} {key}=-")
        if found.get(key) in (None, ""):
            raise StepFailed(f"{where} has no {key} in {path}", f"vault kv patch {shown} {key}=-")
        value = found[key]
        return (value if isinstance(value, str) else json.dumps(value)).encode()

    def _ask(self, path: str) -> tuple[int, Mapping[str, Any]]:
        if not self._options.approle:
            return self._send("GET", path, _file(self._options.token_file, "token_file"))
        with self._lock:
            status, answer = self._send("GET", path, self._login) if self._login else (403, {})
            if status == 403:
                self._login = self._log_in(self._options.approle)
                status, answer = self._send("GET", path, self._login)
            return status, answer

    def _log_in(self, role: AppRole) -> str:
        given = {
            "role_id": _file(role.role_id_file, "approle.role_id_file"),
            "secret_id": _file(role.secret_id_file, "approle.secret_id_file"),
        }
        status, answer = self._send("POST", f"auth/{role.mount}/login", "", given)
        auth = answer.get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        if status != 200 or not isinstance(token, str):
            raise Unavailable(f"Vault at {self._options.address} refuses the login of the AppRole ({status})")
        return token

    def _send(
        self, method: str, path: str, token: str, body: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        """The status and the JSON object of an answer.  Raises Unavailable."""
        headers = {"X-Vault-Request": "true", "X-Vault-Token": token, "X-Vault-Namespace": self._options.namespace}
        where = f"Vault at {self._options.address}"
        if self._options.ca_file and not os.access(self._options.ca_file, os.R_OK):
            raise Unavailable(f"cannot read {self._options.ca_file} (ca_file of a provider of secrets)")
        try:
            with (
                limit(ANSWER_WITHIN_SECONDS),
                self._session.request(
                    method,
                    f"{self._options.address.rstrip('/')}/v1/{path}",
                    json=body,
                    headers={name: value for name, value in headers.items() if value},
                    timeout=ANSWER_WITHIN_SECONDS,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                answer = _object(content(response, LARGEST_ANSWER_BYTES))
        except (requests.RequestException, OSError, ValueError) as error:  # whose text may hold the token
            hint = "see `ca_file` of the provider" if "TLS" in (why := reason(error)) else ""
            raise Unavailable(f"{where} does not answer: {why}", hint) from None
        if answer is None:
            raise Unavailable(f"{where} answers with something else than a JSON object ({response.status_code})")
        return response.status_code, answer


def _object(content: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _inner(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What version 2 has put around the values; None for anything else, such as a secret that was deleted."""
    data = answer.get("data")
    inner = data.get("data") if isinstance(data, dict) else None
    return inner if isinstance(inner, dict) else None


def _file(path: str, key: str) -> str:
    try:
        text = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"cannot read {path} ({key} of a provider of secrets)") from error
    if not text or not text.isprintable() or not text.isascii():
        raise Unavailable(f"{path} ({key} of a provider of secrets) is not one line of text")
    return text


def connect(options: VaultProvider) -> Vault:
    return Vault(options)
