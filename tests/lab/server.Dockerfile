# A lab server: Debian with systemd as PID 1, a Docker engine, and the packages that gitops-mvd needs (not itself).
ARG BASE
FROM ${BASE}

# No clocks, consoles or kernel settings of their own: the kernel is the host's.  What a test may need starts when asked.
RUN systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
        fstrim.timer getty.target console-getty.service systemd-logind.service systemd-sysctl.service \
        systemd-modules-load.service systemd-binfmt.service systemd-remount-fs.service \
        dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
        sys-fs-fuse-connections.mount \
    && systemctl disable --quiet ssh.service docker-registry.service rsyslog.service \
        systemd-journal-remote.socket systemd-journal-gatewayd.socket systemd-journal-upload.service \
    && systemctl set-default --quiet multi-user.target \
    && mkdir -p /var/log/journal

COPY wheels /opt/wheels
RUN python3 -m venv /opt/gitops-mvd \
    && /opt/gitops-mvd/bin/pip install --quiet --no-index --no-deps /opt/wheels/*.whl
COPY daemon.json /etc/docker/daemon.json
COPY boot.sh /opt/boot.sh

ARG TAKES_V1
STOPSIGNAL SIGRTMIN+3
ENV container=docker TAKES_V1=${TAKES_V1}
CMD ["/opt/boot.sh"]
