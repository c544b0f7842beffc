"""Addresses of repositories that git may use, its login there, and the meaning of its errors.  Pure."""

from __future__ import annotations

import re
import urllib.parse

from gitops_mvd.core.errors import MvdError

BRANCH = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.))[^\s\\~^:?*\[\x00-\x20\x7f]+(?<![/.])(?<!\.lock)")
SCP = re.compile(r"[\w.][\w.-]*@[\w.][\w.-]*:(?!:).+")

# Git runs this for a login, but only for the server named in the setting's key: a redirect gets nothing.
LOGIN = r"""!f() { if [ "$1" = get ]; then printf 'username=%s\npassword=%s\n' "$MVD_USERNAME" "$MVD_TOKEN"; fi; }; f"""

# Git hands this to a shell, so it is constant, and what varies is in the environment.
SSH = (
    'ssh -F none -i "$MVD_SSH_KEY" -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes'
    ' -o StrictHostKeyChecking=yes -o UserKnownHostsFile="\\"$MVD_KNOWN_HOSTS\\"" -o GlobalKnownHostsFile=none'
    ' -o UpdateHostKeys=no -o ConnectTimeout="$MVD_SECONDS" -o ServerAliveInterval=15 -o ServerAliveCountMax=2'
)

REFUSED = r"Permission denied \(|Authentication failed|could not read (Username|Password)|returned error: 40[13]"

# Errors of git, curl and ssh -> what is wrong, and what to do.  The first that matches counts.
COMPLAINTS = {
    r"did not complete in|timed out|Operation too slow": ("did not answer in time", ""),
    r"printed more than": ("answers without an end", "check the URL"),
    r"[Oo]ut of memory|memory exhausted|[Ff]ile too large|died of signal (9|24|25)\b": (
        "sends more than this server can take",
        "look for large files in the history of the repository",
    ),
    r"No space left on device|Disk quota exceeded": (
        "could not be fetched: the disk is full",
        "make room for the mirror",
    ),
    r"couldn't find remote ref": ("no longer has the ref that was asked for", "the next sync asks again"),
    r"Could not resolve host": ("cannot be reached: unknown host name", "check the URL and the DNS"),
    r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED": (
        "shows a host key that is not in known_hosts",
        "compare it with the keys that the forge publishes, and add it",
    ),
    r"UNPROTECTED PRIVATE KEY": ("cannot be asked: other users may read the deploy key", "chmod 600 the key"),
    r"Load key|Identity file .* not accessible": (
        "cannot be asked: the deploy key cannot be read",
        "check ssh_key",
    ),
    REFUSED: (
        "refused the login",
        "check the credentials, and that they may read this repository",
    ),
    r"detected dubious ownership": ("belongs to another user", "give it to the user that the daemon runs as"),
    r"[Rr]epository .*not found|not appear to be a git repository|returned error: 404|does not exist": (
        "has no such repository",
        "check the URL, and that the credentials may read it",
    ),
    r"certificate|SSL|TLS": (
        "could not be trusted: its TLS certificate was not accepted",
        "if the clock of this server is right (timedatectl), set `ca_file` to the authority that signed it",
    ),
    r"returned error: \d+": ("answered with an error", "try again later"),
    r"is this a git repository": ("answered, but is no Git server", "check the URL"),
    r"onnect to|refused|unreachable|No route|Empty reply|hung up|reset by": ("does not answer", "check that it runs"),
}


def protocol(url: str) -> str:
    """The one protocol that git may use for this URL.  Raises MvdError for an unsupported URL."""
    split = urllib.parse.urlsplit(url)
    if split.scheme in ("https", "http", "ssh") and "://" in url:
        if split.password or (split.username and split.scheme != "ssh"):
            raise MvdError("the URL of the repository must not have a login in it: use the settings made for that")
        if not split.hostname or split.hostname.startswith("-"):
            raise MvdError(f"the repository address {url} names no server")
        return split.scheme
    if url.startswith(("file:///", "/")):
        return "file"
    if SCP.fullmatch(url):
        return "ssh"
    shown = re.sub(r"//[^/@]*@", "//***@", url)
    raise MvdError(f"unsupported repository address {shown}", "use https://, ssh://, file:/// or a full path")
