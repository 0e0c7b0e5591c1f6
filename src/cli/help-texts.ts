import { sampleConfig } from '../policy/config-keys.ts'
import { fullName } from '../policy/key.ts'
import { keyNames, keys } from '../policy/keys.ts'

// What the help of some commands says below their options.

/** What the exit status of any command means, for the help and the manual. */
export const EXIT_STATUS = `  0    success
  1    the answer is no (doctor, test, profile --check, serve --check-config), or there is no such container, or no engine
  2    wrong command line
  125  the command line is right, but the command failed
       run exits with 126 and 127 as podman does, and otherwise with the status of its command`

export const RUN_HELP = `
Signals reach the command. A second SIGINT or SIGTERM kills the container. So does the first one if the command has not ended
within --stop-timeout, and so does the end of intercede itself.

Exit status:
  the status of the command, or 128 + N if signal N ended it (143: SIGTERM, 137: SIGKILL, or killed as above)
  2    wrong command line
  125  intercede could not start the container, or could not write the output
  126  the command cannot be executed
  127  there is no such command

Examples:
  intercede run -- id                               reads the host's files as an unprivileged user; its writes are discarded
  intercede run -c mknod --explain -- sh            prints at once why a call was refused
  intercede run --bind /srv/src:ro -- make -C /srv/src check
  intercede run --bind /srv/conf:/etc/app.conf:ro -- app
  install -d -m 700 /srv/trees                      keeps the host's users out of the directory
  mkdir /srv/trees/trixie                           keeps the files, with the owners that the container sees:
  intercede run -c mknod --net host --bind /srv/trees/trixie:idmap -- debootstrap --variant=minbase trixie /srv/trees/trixie
  intercede run --rootfs /srv/trees/trixie -- bash  starts the tree`

export const ADVISE_HELP = `Both runs are like "intercede run": the command works over the host's files, and what it writes is thrown away. The
first run has every key that is harmless in any container, and those of -c. The second run has only the keys that the
first one used. It ends as the first one did, is refused nothing new, and leaves files of the same names, types, modes
and owners, except in /tmp, /var/tmp, /run and /dev/shm: otherwise standard error says how it differs. Names made at
random may differ if all else is alike. --write writes the profile in any case.

The command's output goes to standard error, the advice to standard output. Ctrl-C ends the command, and shows what it
used until then. What the command does to a server, or below --bind, it does twice. What it reads from standard input,
only the first run has, unless that is a terminal.

With --container it runs nothing, and tells what containers have used until now: as served, or in observe mode what they
would have used.

Exit status:
  0    the runs are alike
  1    the runs differ, or there is no such container
  2    wrong command line
  125  a run could not start, or was killed
  126  the command cannot be executed
  127  there is no such command
  130  interrupted

Examples:
  intercede advise -- sh -c 'mknod /tmp/null c 1 3'
  intercede advise -c mknod.devices=c:10:200 --net host -- debootstrap --variant=minbase trixie /tmp/trixie
  intercede advise --write build.yaml --profile build -- make image
  intercede advise --container web --container build`

export const SERVE_HELP = () => `
Without a configuration, the daemon serves only what a container's own profile contains (see intercede profile).
You can add the file later: SIGHUP reads it. All of it is optional:

${sampleConfig()
  .map((line) => `  ${line}\n`)
  .join('')}
A user serves rootless containers with "podman unshare intercede serve --user". This daemon leaves calls that the
kernel allows only to root of the host, such as making devices, to the kernel.

The daemon logs one JSON object a line on standard error, or directly to the journal if standard error goes there. It ends on
SIGTERM and SIGINT. On SIGHUP it applies the configuration again. After an upgrade it becomes the new program: on SIGHUP, or
within seconds by itself unless reload is manual. No call is lost. If the reload fails, the daemon says why and continues
unchanged.`

const KEY_HELP = keyNames
  .map(
    (name) =>
      `  ${fullName(name)}\n      ${keys[name].help}\n      ${keys[name].allowed}; default ${keys[name].default || 'none'}`,
  )
  .join('\n')

export const PROFILE_HELP = `
The file contains the filter and the policy: the runtime installs the filter, and hands
the listener with the policy to "intercede serve". With --profile the policy is the name
of a profile in the daemon's configuration. The filter traps what that profile needs now
and what --trap adds. Within that, edits of the profile apply to running containers.

Examples:
  # the profile "build" of the daemon's configuration: its keys are not in the file, and can change while containers run
  intercede profile --profile build --output build.json

  # the harmless character devices, and /dev/net/tun
  intercede profile -c mknod -c mknod.devices=c:10:200 --output mknod.json
  podman run --interactive --userns=auto --cap-add MKNOD --security-opt seccomp=mknod.json IMAGE

  # the same calls on top of podman's own profile, as linux.seccomp of a bundle for runc
  intercede profile -c mknod -c sysinfo --runtime runc --base /usr/share/containers/seccomp.json

  # for Pods with localhostProfile: operator/mknod.json
  intercede profile --format spo -c mknod --name mknod | kubectl apply --filename -

  # for LXC: writes the file, and prints the lines for the container's configuration
  intercede profile --format lxc -c mknod --base /usr/share/lxc/config/common.seccomp \\
    --output /etc/lxc/mknod.seccomp | tee -a /var/lib/lxc/NAME/config

Keys (you can leave out the part up to "intercept."; a boolean without a value means true):
${KEY_HELP}`

export const TEST_HELP = `
Intercede's own code decides about the calls of a caller that the file describes. It asks no kernel, does nothing, and needs no
root. A case fails if the outcome, errno, reason or act is not as expected, or if deciding takes a fact that the file does not
describe. The outcome done means that Intercede tries to do the call: the kernel may still answer with an errno.

A file:
  policy: { mknod: true, mknod.devices: c:10:200 }      # or profile: NAME, and config: FILE
  caller: { capabilities: [MKNOD] }                     # by default root of a container with all capabilities
  tests:
    - call: mknodat(AT_FDCWD, "tun", S_IFCHR|0666, 10:200)
      expect: done
    - name: a nested container cannot make it
      call: { syscall: mknod, path: tun, mode: S_IFCHR|0666, dev: 10:200 }
      caller: { userNamespace: nested }
      expect: left
      reason: childUserns

deploy/policy-test.schema.json describes all of it for editors.

Examples:
  intercede test policy.yaml                                    prints the cases that fail; exits with 1 if there are any
  intercede test --format junit tests/*.yaml >results.xml
  intercede test --profile build --daemon-config intercede.yaml tests/build.yaml
  intercede test --from-records build >tests/build.yaml         writes what the container did as a file of tests`

export const FLAGS_HELP = `
Prints on standard output: options of podman, Docker and ctr, lines for LXC, fields of a Pod.
Further advice goes to standard error. On failure it prints an option that podman, Docker and ctr
refuse, so that no container starts without the keys that you asked for.

Examples:
  podman run $(intercede flags podman --profile build --write) IMAGE mknod /tmp/null c 1 3
  podman build $(intercede flags podman-build -c mknod --write) .
  podman run $(intercede flags podman --user -c sysinfo --write) IMAGE free    # rootless
  intercede flags kubernetes -c mknod -c sysinfo
  intercede flags lxc -c mknod --write >>/var/lib/lxc/NAME/config`
