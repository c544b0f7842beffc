#!/bin/sh
# The first process of a lab server: sees to its cgroups, and becomes systemd.
set -eu
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then # version 2, a namespace of its own, which Docker mounts read-only
    mount -o remount,rw /sys/fs/cgroup
elif [ "$TAKES_V1" = no ]; then # of version 1 there are only the machine's; version 2 is in every kernel, beside them
    mkdir /run/cgroup
    mount -t cgroup2 cgroup2 /run/cgroup
    own="/run/cgroup/$OWN_CGROUP"
    mkdir -p "$own"
    find "$own" -mindepth 1 -depth -type d -exec rmdir {} + # what an earlier boot has left
    echo $$ >"$own/cgroup.procs"
    umount /run/cgroup
    exec unshare --cgroup sh -euc \
        'umount --recursive /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec /sbin/init'
fi
exec /sbin/init
