#!/bin/sh
# The first process of a machine of the rig: builds the machine's root, moves into it, and stays as its init.
#
#   unshare --mount --pid --fork ... sh enter.sh LOWER STATE NAME
#
# LOWER is the folder (or /) that the machine looks like; STATE holds what it writes. Every mount made here lives in
# the machine's own mount namespace, so that nothing has to be unmounted when its last process is gone.
set -eu
lower=$1
state=$2
echo "$3" >/proc/sys/kernel/hostname

mount -t tmpfs -o mode=755 rig "$state/root"
mkdir "$state/root/upper" "$state/root/work" "$state/root/new"
mount -t overlay -o "lowerdir=$lower,upperdir=$state/root/upper,workdir=$state/root/work" rig "$state/root/new"
cd "$state/root/new"

mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
[ "$lower" != / ] || mount -t tmpfs -o mode=755 rig usr/local # a fresh Debian has nothing there
mkdir -p usr/local/bin usr/local/sbin etc/docker var/lib/docker var/lib/containerd var/lib/containers
for pair in run:run tmp:tmp tmp:var/tmp home:root shm:dev/shm \
  docker:var/lib/docker containerd:var/lib/containerd containers:var/lib/containers etc-docker:etc/docker; do
  mount --bind "$state/${pair%%:*}" "${pair#*:}"
done

mkdir -p mnt/before
pivot_root . mnt/before
cd /
umount -l /mnt/before
: >/run/rig/ready
# Ignoring SIGCHLD makes the kernel reap what is left to this process.
exec env --ignore-signal=CHLD sleep infinity
