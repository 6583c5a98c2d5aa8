#!/bin/bash
# Boots a real systemd in namespaces of its own, over a copy of this machine's files that is thrown away, without network.
# Usage, as root: unshare --mount --propagation private house.sh FOLDER NAME     (FOLDER: empty; NAME: of its cgroup)
# The source tree is there read-only, wherever it lies: /tmp is empty, and other file systems are not copied.
set -e
work=$1
if [ "$2" != inside ]; then
    mount -t tmpfs tmpfs "$work"
    mkdir "$work/cg"
    mount -t cgroup2 cgroup2 "$work/cg"
    mkdir "$work/cg/$2"
    echo $$ >"$work/cg/$2/cgroup.procs"
    exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup --net --propagation private "$0" "$work" inside
fi
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
tree=$(cd "$(dirname "$0")/../.." && pwd)
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp dev; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
chmod 755 run dev
mkdir -p "./$tree"
mount --bind "$tree" "./$tree"
mount -o remount,bind,ro "./$tree"
for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/shm
mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd
# What would look after hardware or the kernel's settings has no place here.
rm -rf etc/systemd/system/*.wants
for unit in systemd-{udevd,udev-trigger,sysctl,modules-load,random-seed,remount-fs,binfmt,timesyncd,logind}.service \
    systemd-udevd-{control,kernel}.socket {dev-hugepages,dev-mqueue,sys-kernel-debug,sys-kernel-tracing}.mount \
    {sys-kernel-config,sys-fs-fuse-connections}.mount proc-sys-fs-binfmt_misc.automount getty.target apparmor.service; do
    ln -sf /dev/null etc/systemd/system/$unit
done
printf '[Unit]\nDefaultDependencies=no\n' >etc/systemd/system/house.target
ip link set lo up
export container=house
exec chroot . /lib/systemd/systemd --system --unit=house.target --log-target=console --show-status=0
