# What begins the script of a guest, which the steps follow; its output goes to the second serial port.
stty raw -echo <&1
mount --make-rshared /
# initrd.sh has mounted them, and a soft-reboot unmounts them.
mountpoint -q /usr/lib/modules || mount /dev/vdb /usr/lib/modules
mountpoint -q /checkout || mount /dev/vdc /checkout
# A root that was only unpacked, as that of another architecture, lacks some.
mkdir -p /work /usr/local/bin /run/ended /mnt
cd /work
ln -sf /checkout/bin/intercede.js /usr/local/bin/intercede
echo "@kernel $(cat /proc/sys/kernel/osrelease)"
# What V8 made of the bundles is for the Node of the host: without this, every start takes twice as long.
node /checkout/scripts/code-cache.js

# step NAME SECONDS: runs the script that it reads, which fails with a status, and is skipped with 77 and a last line that says why.
# On a kernel that is too old, a step must be refused in words.
step() {
  # After a soft-reboot, which keeps /run, this script begins again, with the step that asked for it.
  steps=$((${steps-0} + 1))
  if [ -e "/run/ended/$steps" ]; then
    cat >/run/nothing
    return
  fi
  echo "@step $1"
  cat >/run/step
  : >/run/nothing
  # A runtime may give what it passes on to the root of its container: these are a file and a pipe.
  { timeout -k 5 "$2" sh -e /run/step </run/nothing 2>&1; echo $? >/run/status; } | sed -u 's/^@/ @/' | tee /run/said
  case $(uname -r) in
  5.10.*)
    lacks=$(grep -o 'this kernel lacks [^:]*\|NEEDED .*' /run/said | head -n 1)
    [ "$(cat /run/status)" = 0 ] || [ -z "$lacks" ] || { echo "refused: $lacks"; echo 77 >/run/status; }
    ;;
  esac
  echo "@end $(cat /run/status)"
  : >"/run/ended/$steps"
}
