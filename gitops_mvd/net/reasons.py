"""Why a request failed, whatever library has sent it."""

from __future__ import annotations

import socket
import ssl

NOT_TRUSTED = "its TLS certificate is not accepted"
CERTIFICATES = {  # the codes of OpenSSL for what a clock decides
    9: "its TLS certificate is not valid yet: is the clock of this server right?",
    10: "its TLS certificate has expired, or the clock of this server is wrong",
}


def reason(error: BaseException) -> str:
    """Why a request failed, in the system's words and never in those of a library, which may show the token."""
    seen: list[BaseException] = []
    unseen: list[object] = [error]
    while unseen:
        each = unseen.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            unseen += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
    if refusals := [each for each in seen if isinstance(each, ssl.SSLCertVerificationError)]:
        return CERTIFICATES.get(refusals[0].verify_code, NOT_TRUSTED)
    if any(isinstance(each, TimeoutError) or "timeout" in type(each).__name__.lower() for each in seen):
        return "timed out"
    if any(isinstance(each, socket.gaierror) for each in seen):
        return "unknown host name"
    if any(isinstance(each, ssl.SSLError) for each in seen):
        return "the TLS handshake failed"
    words = (each.strerror for each in seen if isinstance(each, OSError) and each.errno and each.strerror)
    return next((text.lower() for text in words), "the connection broke")
