"""An image of Debian's HAProxy, which users have from Docker Hub: the program, its libraries, and nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.lab import Lab

REPOSITORY, TAG = "haproxy", "3.0"  # what Debian 13 has
BUILD_SECONDS = 300.0
# As in the image on Docker Hub, the program is in $PATH, the account exists, and the default folders are there.
DOCKERFILE = """\
FROM {server} AS debian
RUN export DEBIAN_FRONTEND=noninteractive && apt-get -qq update \\
    && apt-get -qq install -y --no-install-recommends haproxy \\
    && mkdir -p /out/etc /out/tmp /out/run/haproxy /out/usr/local/etc/haproxy \\
    && cp -L --parents /usr/sbin/haproxy $(ldd /usr/sbin/haproxy | grep -o '/[^ ]*') /out \\
    && grep -E '^(root|haproxy):' /etc/passwd >/out/etc/passwd \\
    && grep -E '^(root|haproxy):' /etc/group >/out/etc/group
FROM scratch
COPY --from=debian /out /
ENV PATH=/usr/sbin
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""


def push(lab: Lab) -> str:
    """Push the image, made if it is missing, and return its name as a server pulls it.  Raises CommandFailed."""
    dockerfile = DOCKERFILE.format(server=lab.image)
    tag = f"gitops-mvd-lab/haproxy:{hashlib.sha256(dockerfile.encode()).hexdigest()[:12]}"
    if not lab.engine.has_image(tag):
        build = ("build", "--quiet", "--network", "host", "--tag", tag, "-")
        lab.engine.docker(*build, input=dockerfile, timeout=BUILD_SECONDS)
    name = f"{lab.registry.url.removeprefix('http://')}/{REPOSITORY}:{TAG}"
    lab.engine.docker("tag", tag, name)
    lab.engine.docker("push", "--quiet", name, timeout=BUILD_SECONDS)
    lab.engine.docker("rmi", name)
    return f"{lab.registry.address}/{REPOSITORY}:{TAG}"
