"""A certificate, its key, and the same key as a JWK: real ones, since Kong reads them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "shop.example.org"
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_KEY = ec.generate_private_key(ec.SECP256R1())


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=")


def _certificate() -> str:
    builder = x509.CertificateBuilder().subject_name(_NAME).issuer_name(_NAME).public_key(_KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(_BEGAN).not_valid_after(_BEGAN + timedelta(days=36500))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode().strip()


CERTIFICATE = _certificate()
KEY = (
    _KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
    .strip()
)
_POINT = _KEY.public_key().public_numbers()
JWK = json.dumps({"kty": "EC", "crv": "P-256", "x": _base64(_POINT.x), "y": _base64(_POINT.y), "kid": "k1"})
PUBLIC_KEY = (
    _KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
    .strip()
)
