"""Certificates and keys of Kong that are none are found without Kong, and never told."""

from __future__ import annotations

import json

import pytest

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import load, review
from tests.unit.memory_tree import MemoryTree

CERT = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"


def problems(cert: str, key: str = KEY) -> list[str]:
    return [str(problem) for problem in review(gateway(cert, key)).problems]


def gateway(cert: str, key: str) -> MemoryTree:
    return MemoryTree({"kong/tls.yaml": json.dumps({"certificates": [{"cert": cert, "key": key}]})})


@pytest.mark.parametrize(
    "cert",
    [CERT, f"\n{CERT}", CERT + CERT, CERT.replace("\n", "\r\n"), "{file://tls.crt}", "{vault://env/tls}"],
)
def test_a_certificate_and_a_reference_are_one(cert: str) -> None:
    assert problems(cert) == []


@pytest.mark.parametrize(
    "key", [KEY, KEY.replace("PRIVATE", "EC PRIVATE"), KEY.replace("PRIVATE", "RSA PRIVATE"), "{file://tls.key}"]
)
def test_a_private_key_of_any_kind_is_one(key: str) -> None:
    assert problems(CERT, key) == []


@pytest.mark.parametrize(
    ("cert", "why"),
    [
        ("tls.crt", "is no PEM: it must have the lines -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"),
        (CERT.replace("-----END", "---END"), "is no PEM: it must have the lines"),
        (KEY, "is a private key, and should be a certificate"),
        (CERT.replace("CERTIFICATE", "CERTIFICATE REQUEST"), "is a certificate request, and should be a certificate"),
        (CERT.replace("MIIB", "MIIB*"), "is no certificate: what stands between its lines is damaged"),
        (CERT.replace("MIIB", "aGVsbG8="), "is no certificate: what stands between its lines is damaged"),
    ],
)
def test_what_is_no_certificate_is_told_as_what_it_is(cert: str, why: str) -> None:
    [problem] = problems(cert)
    assert problem.startswith(f"kong/tls.yaml:1: certificates[0].cert: {why}")


def test_a_block_is_the_first_that_has_both_of_its_lines() -> None:
    assert problems(f"-----BEGIN RSA KEY-----\n{CERT}-----END PARAMETERS-----\n") == []
    assert problems(f"-----END CERTIFICATE-----\n-----BEGIN PARAMETERS-----\n{CERT}") == []
    assert problems("-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----") == []


@pytest.mark.parametrize(
    "cert",
    [
        f"-----BEGIN CERTIFICATE-----{' ' * 200_000}",
        "-----BEGIN CERTIFICATE-----\n" * 20_000,
        "".join(f"-----BEGIN {n:09}-----\n" for n in range(20_000)),
    ],
    ids=["spaces", "one-label", "labels"],
)
def test_a_long_text_without_an_end_is_soon_known_to_be_none(cert: str) -> None:
    [problem] = problems(cert)
    assert "is no PEM: it must have the lines" in problem


@pytest.mark.parametrize(
    "key", ["hunter2", CERT, KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"), KEY.replace("MIIB", "hunter2")]
)
def test_what_is_no_key_is_a_mistake_that_does_not_tell_it(key: str) -> None:
    [problem] = problems(CERT, key)
    assert "certificates[0].key: is " in problem
    assert "hunter2" not in problem


def test_a_host_leaves_the_judgement_to_kong() -> None:
    [app], broken = load(gateway("none", "none"), HostFacts("h1"))
    assert app.kong_entities["certificates"]
    assert not broken


def test_a_certificate_authority_is_one_too() -> None:
    tree = MemoryTree({"kong/ca.yaml": json.dumps({"ca_certificates": [{"cert": KEY}]})})
    [problem] = review(tree).problems
    assert problem.key == "ca_certificates[0].cert"
