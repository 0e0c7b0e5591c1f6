#!/bin/busybox sh
# The init of the initial file system: finds the disks and goes on as the init of the first one.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do [ ! -e "$module" ] || /bin/busybox insmod "$module"; done
# As user-mode Linux calls them.
for disk in a b c d; do [ ! -e /dev/ubd$disk ] || /bin/busybox ln -s ubd$disk /dev/vd$disk; done
case $(/bin/busybox cat /proc/cmdline) in
*guest.boots*) echo 'This guest boots' && /bin/busybox poweroff -f ;;
esac
until [ -e /dev/vdd ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -t ext4 /dev/vdb /root/usr/lib/modules
/bin/busybox mount -t ext4 /dev/vdc /root/checkout
exec /bin/busybox switch_root /root /sbin/init
