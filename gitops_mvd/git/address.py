"""Where the config repository may lie, how git is let in there, and what it means when it complains.  Pure."""

from __future__ import annotations

import re
import urllib.parse

from gitops_mvd.core.errors import MvdError

BRANCH = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.))[^\s\\~^:?*\[\x00-\x20\x7f]+(?<![/.])(?<!\.lock)")
SCP = re.compile(r"[\w.][\w.-]*@[\w.][\w.-]*:(?!:).+")

# Git asks this for a login, but only on behalf of the server named in the key of that setting: a redirect gets nothing.
LOGIN = r"""!f() { if [ "$1" = get ]; then printf 'username=%s\npassword=%s\n' "$MVD_USERNAME" "$MVD_TOKEN"; fi; }; f"""

# Git hands this to a shell: so it is constant, and what varies is in the environment.
SSH = (
    'ssh -F none -i "$MVD_SSH_KEY" -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes'
    ' -o StrictHostKeyChecking=yes -o UserKnownHostsFile="\\"$MVD_KNOWN_HOSTS\\"" -o GlobalKnownHostsFile=none'
    ' -o UpdateHostKeys=no -o ConnectTimeout="$MVD_SECONDS" -o ServerAliveInterval=15 -o ServerAliveCountMax=2'
)

REFUSED = r"Permission denied \(|Authentication failed|could not read (Username|Password)|returned error: 40[13]"

# What git, curl and ssh say: what that means, and what to do about it.  The first that is found counts.
COMPLAINTS = {
    r"did not complete in|timed out|Operation too slow": ("did not answer in time", ""),
    r"No space left on device|Disk quota exceeded": (
        "could not be fetched: the disk is full",
        "make room for the mirror",
    ),
    r"couldn't find remote ref": ("has not got any more what was to be fetched", "it is looked for again"),
    r"Could not resolve host": ("could not be reached: its name is unknown", "check the URL and the DNS"),
    r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED": (
        "shows a host key that is not in known_hosts",
        "compare it with the keys that the forge publishes, and add it",
    ),
    r"UNPROTECTED PRIVATE KEY": ("could not be asked: others may read the deploy key", "chmod 600 the key"),
    r"Load key|Identity file .* not accessible": (
        "could not be asked: the deploy key can not be read",
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
    r"certificate|SSL|TLS": ("could not be trusted: its TLS certificate was not accepted", "check the CA certificates"),
    r"returned error: \d+": ("answered with an error", "it may mend by itself"),
    r"is this a git repository": ("answered, but not as a Git server does", "check the URL"),
    r"onnect to|refused|unreachable|No route|Empty reply|hung up|reset by": ("does not answer", "check that it runs"),
}


def protocol(url: str) -> str:
    """The one protocol that git may speak for this URL.  Raises MvdError for any that we do not know."""
    split = urllib.parse.urlsplit(url)
    if split.scheme in ("https", "http", "ssh") and "://" in url:
        if split.password or (split.username and split.scheme != "ssh"):
            raise MvdError("the URL of the repository must not have a login in it: use the settings made for that")
        if not split.hostname or split.hostname.startswith("-"):
            raise MvdError(f"{url}: names no server")
        return split.scheme
    if url.startswith(("file:///", "/")):
        return "file"
    if SCP.fullmatch(url):
        return "ssh"
    shown = re.sub(r"//[^/@]*@", "//***@", url)
    raise MvdError(f"{shown}: is no address that is known here", "use https://, ssh://, file:/// or a full path")
