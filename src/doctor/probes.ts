import { type Cap, capMask } from '../abi/credentials.ts'
import { PROC_PID_INIT_INO, PROC_USER_INIT_INO } from '../abi/process.ts'
import { type Target, WAIT_KILLABLE_RECV } from '../filter/target.ts'
import { orElse } from '../kernel/error.ts'
import type { KernelFeature } from '../kernel/probe.ts'
import { statusMask } from '../kernel/procfs/status.ts'
import { ID_COUNT, lxcfsFiles } from '../runtimes/flags.ts'
import { ociRuntimes, otherRuntimes } from '../runtimes/known/index.ts'
import { nodevStorage, podman } from '../runtimes/known/podman.ts'
import { changeOf, chooseRange, sourcesFrom } from '../runtimes/launch/ids.ts'
import { INIT_PACKAGE, installedInit } from '../runtimes/launch/init.ts'
import { faultRemedy, hasFault, type Installed, type OciRuntime, versionIn } from '../runtimes/runtime.ts'
import { type Finding, type HostFacts, NULL_REMEDY, thisHost } from './host-facts.ts'

/** A question to the machine and, for the answer "no", what follows and what to do. */
export interface Probe {
  readonly name: string
  /**
   * `true`: neither `run` nor `serve` works without it; `on the host`: without it only `serve --user` works;
   * `to serve`: without it only `run` works.
   */
  readonly needed?: true | 'on the host' | 'to serve'
  probe(machine: HostFacts): Finding
  readonly follows: string
  readonly remedy: string
  /** What to do if the probe itself fails, if that is something else. */
  readonly remedyIfUnknown?: string
}

const feature = (name: KernelFeature) => (machine: HostFacts) => ({ ok: machine.kernel[name]() })

/** Tells whether a namespace is the initial one, by its inode number (include/linux/proc_ns.h). */
const initial = (kind: 'user' | 'pid', inode: number) => (machine: HostFacts) => ({
  ok: machine.link(`/proc/self/ns/${kind}`) === `${kind}:[${inode}]`,
})

/** What the kernel itself can do. */
export const kernelProbes: readonly Probe[] = [
  {
    name: 'seccomp user notification',
    needed: true,
    probe: feature('userNotification'),
    follows: 'no system call can be intercepted',
    remedy: 'boot Linux 5.9 or later with CONFIG_SECCOMP_FILTER',
  },
  {
    name: 'answers with a descriptor in one step (ADDFD_FLAG_SEND)',
    probe: feature('addfdSend'),
    follows: 'calls that give back a descriptor cannot be served',
    remedy: 'boot Linux 5.14 or later',
  },
  {
    name: 'notifications that outlive signals (WAIT_KILLABLE_RECV)',
    probe: feature('waitKillableRecv'),
    follows: 'a signal to a caller restarts its call: about one in 10,000 of those ends with a wrong EEXIST',
    remedy: 'boot Linux 5.19 or later',
  },
  {
    name: 'wake-up on the same processor (SYNC_WAKE_UP)',
    probe: feature('syncWakeUp'),
    follows: 'each intercepted call may take some 40 us more',
    remedy: 'boot Linux 6.6 or later',
  },
  {
    name: 'lookups that never block (RESOLVE_CACHED)',
    needed: true,
    probe: feature('resolveCached'),
    follows: 'resolving a path of a container may hang in its file systems',
    remedy: 'boot Linux 5.12 or later',
  },
  {
    name: 'idmapped mounts',
    needed: true,
    probe: feature('mountSetattr'),
    follows: 'run cannot show a root directory that belongs to the host, and mounts cannot be shifted',
    remedy: 'boot Linux 5.12 or later',
  },
  {
    name: 'comparison of descriptors (kcmp)',
    probe: feature('fileComparison'),
    follows: 'mounts through fsopen(2), as mount(8) makes them, are left to the kernel (EPERM)',
    remedy: 'boot a kernel with CONFIG_KCMP',
  },
  {
    name: 'overlayfs',
    probe: feature('overlay'),
    follows: "run needs --rootfs: it cannot show the host's file systems under a throw-away layer",
    remedy: 'load the module: modprobe overlay',
  },
  {
    name: 'translation of process numbers (NS_GET_PID_FROM_PIDNS)',
    probe: feature('pidTranslation'),
    follows: 'calls that name another process are left to the kernel, and records have no number of the caller',
    remedy: 'boot Linux 6.11 or later',
  },
  {
    name: 'unique mount ids',
    probe: feature('uniqueMountIds'),
    follows: 'Intercede cannot always distinguish mounts of the host from those of a container: more calls are slow',
    remedy: 'boot Linux 6.8 or later',
  },
  {
    name: 'device nodes on what a container has mounted (copies of detached mounts)',
    probe: feature('copyDetached'),
    follows: 'mknod on a tmpfs of a container is left to the kernel (EPERM), unless mount.allowed=tmpfs has made it',
    remedy: 'boot Linux 6.15 or later, or set mount.allowed=tmpfs for such containers',
  },
  {
    name: 'BPF tokens',
    probe: feature('bpfTokens'),
    follows: 'the keys bpf.delegate_* do nothing',
    remedy: 'boot Linux 6.9 or later with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF',
  },
]

const withoutFlaw = (flaw: string | undefined): Finding =>
  flaw === undefined ? { ok: true } : { ok: false, found: flaw }

/** Capabilities without which an engine thread can neither become its caller nor act for it. */
const NEEDED: readonly Cap[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'KILL',
  'MKNOD',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_ADMIN',
  'SYS_CHROOT',
  'SYS_PTRACE',
]

const surroundings: readonly Probe[] = [
  {
    name: 'capabilities of this process',
    needed: true,
    probe({ read }) {
      const effective = statusMask(read('/proc/self/status'), 'CapEff')
      const absent = NEEDED.filter((cap) => (effective & capMask(cap)) === 0n)
      return { ok: absent.length === 0, found: absent.map((cap) => `no CAP_${cap}`).join(', ') }
    },
    follows: 'nothing can be done for a container',
    remedy:
      'run it as root, with sudo, or by podman unshare for the containers of a user; in a service, do not narrow CapabilityBoundingSet',
  },
  {
    name: 'the capability to raise limits (CAP_SYS_RESOURCE)',
    probe: ({ read }) => ({
      ok: (statusMask(read('/proc/self/status'), 'CapEff') & capMask('SYS_RESOURCE')) !== 0n,
    }),
    follows: 'the key rlimits does nothing',
    remedy: 'run it where root has this capability; in a service, do not narrow CapabilityBoundingSet',
  },
  {
    name: "the host's user namespace",
    needed: 'on the host',
    probe: initial('user', PROC_USER_INIT_INO),
    follows: 'the kernel refuses everything here except what serve --user does: sysinfo and mount.fuse',
    remedy: 'run it as root on the host, not in an unprivileged container or user namespace',
  },
  {
    name: "the host's pid namespace",
    probe: initial('pid', PROC_PID_INIT_INO),
    follows: 'callers outside of ours are not visible, and their calls are left to the kernel',
    remedy: 'run it on the host, or with --pid=host',
  },
  {
    name: 'user namespaces',
    needed: true,
    probe({ read, run, which }) {
      const limit = Number(read('/proc/sys/user/max_user_namespaces') || 0)
      const isRefused = which('unshare') !== undefined && run('unshare', '--user', 'true') === undefined
      if (isRefused && (statusMask(read('/proc/self/status'), 'CapEff') & capMask('SYS_ADMIN')) === 0n)
        throw new Error('a user cannot make one')
      return { ok: limit > 0 && !isRefused, found: `${limit} allowed${isRefused ? ', but none can be made here' : ''}` }
    },
    follows: 'there can be no unprivileged container',
    remedy:
      'sysctl user.max_user_namespaces=15000; in a chroot the kernel makes none: use systemd-nspawn; in a container, let its seccomp profile allow unshare',
  },
  {
    name: 'ids for the containers of run',
    probe({ read }) {
      try {
        const sources = sourcesFrom(read)
        const ids = chooseRange(sources)
        const change = changeOf(ids, sources)
        const from = `${ID_COUNT} user ids from ${ids.uid}, group ids from ${ids.gid}`
        return { ok: true, found: change === undefined ? from : `${from}; with the next run ${change}` }
      } catch (error) {
        return { ok: false, found: (error as Error).message }
      }
    },
    follows: 'run cannot start a container',
    remedy: `add a line "intercede:FIRST:${ID_COUNT}" to /etc/subuid and to /etc/subgid, with ids that no other line has`,
  },
  {
    name: 'cgroup v2',
    probe({ read }) {
      const at = /^\S+ (\S+) cgroup2 /m.exec(read('/proc/self/mounts'))?.[1]
      if (at === undefined) return { ok: false, found: 'v1 only' }
      return { ok: true, found: at === '/sys/fs/cgroup' ? 'v2 only' : `hybrid, v2 at ${at}` }
    },
    follows: 'devices of a container cannot be limited, so run starts none',
    remedy: 'boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup/unified',
  },
  {
    name: "intercede's own files",
    needed: 'to serve',
    probe: (machine) => withoutFlaw(machine.openToOthers()),
    follows: 'serve does not start: whoever can change these files controls a process of root',
    remedy:
      'give them, and the directories that they are in, to root, writable for root only; or install a copy for root',
  },
  {
    name: 'the configuration',
    needed: 'to serve',
    probe: (machine) => withoutFlaw(machine.configFlaw()),
    follows: 'a reload is refused, and serve may not start',
    remedy: 'correct the file; "intercede serve --check-config" tells whether it is right',
  },
  {
    name: 'the running daemon',
    probe: (machine) => machine.daemon(),
    follows: 'calls may wait or fail, and what was refused may not be known',
    remedy: 'read its log (of the package: journalctl -u intercede)',
  },
  {
    name: 'the null device',
    probe: (machine) => withoutFlaw(machine.nullFlaw()),
    follows: 'programs of users may fail where they open it',
    remedy: NULL_REMEDY,
  },
  {
    name: 'Node',
    needed: true,
    probe({ node }) {
      const [major = 0, minor = 0] = node.split('.').map(Number)
      return { ok: major > 20 || (major === 20 && minor >= 19), found: node }
    },
    follows: 'this version of Node is not tested',
    remedy: 'install Node 20.19 or later',
  },
]

/**
 * Tells whether a runtime knows a filter flag, by searching its file for the name: neither crun nor older runc list
 * flags among their features. A file without any such name is taken for a script that starts the runtime.
 *
 * @returns undefined if it is not installed
 */
function knowsFlag({ which, contains }: HostFacts, program: string, flag: string): boolean | undefined {
  const path = which(program)
  return path === undefined ? undefined : contains(path, flag) || !contains(path, 'SECCOMP_FILTER_FLAG_')
}

/** Tells whether the kernel knows a filter flag. A kernel that cannot be asked has a filter of a newer one on us. */
const kernelTakes = ({ kernel }: HostFacts, flag: string): boolean =>
  flag !== WAIT_KILLABLE_RECV || orElse(true, () => kernel.waitKillableRecv())

/**
 * Returns the reader of a profile with only those filter flags that both the kernel and the reader know here: with
 * another one, no container starts. A reader that is not installed may read the profile elsewhere: it knows them all.
 */
export const targetHere = (target: Target, machine: HostFacts = thisHost): Target => ({
  ...target,
  flags: target.flags.filter(
    (flag) => knowsFlag(machine, target.program, flag) !== false && kernelTakes(machine, flag),
  ),
})

/**
 * @returns undefined if it is not installed
 * @throws {Error} if it does not say its version, as podman without HOME
 */
function versionOf({ run, which }: HostFacts, program: string): string | undefined {
  const version = versionIn(run(program, '--version') ?? '')
  const path = version === undefined ? which(program) : undefined
  if (path !== undefined) throw new Error(`"${path} --version" does not say the version`)
  return version
}

/** What to do about a program that does not say its version: podman says none with a configuration that it rejects. */
const mend = ({ program }: Installed): string => `run "${program} --version", and mend what it complains about`

const install = ({ packages }: Installed): string => `apt-get install ${packages.join(' ')}`

function ociRuntime(runtime: OciRuntime): readonly Probe[] {
  const { fault, target } = runtime
  const { label, program } = runtime.installed
  const older: Probe | undefined = fault && {
    name: `${label} ${fault.name}`,
    probe(machine) {
      const version = versionOf(machine, program)
      return { ok: version === undefined || !hasFault(runtime, version), ...(version ? { found: version } : {}) }
    },
    follows: fault.follows,
    remedy: faultRemedy(runtime),
  }
  return [
    {
      name: `${label} with seccomp notification`,
      probe(machine) {
        const version = versionOf(machine, program)
        if (version === undefined) return { ok: false, found: 'not installed' }
        return { ok: (machine.run(program, 'features') ?? '').includes('SCMP_ACT_NOTIFY'), found: version }
      },
      follows: `containers of ${label} cannot be intercepted`,
      remedy: install(runtime.installed),
      remedyIfUnknown: mend(runtime.installed),
    },
    {
      name: `${label} with WAIT_KILLABLE_RECV`,
      // Profiles for a runtime of which not every version knows flags have none.
      probe: (machine) => ({
        ok: target.flags.includes(WAIT_KILLABLE_RECV) && knowsFlag(machine, program, WAIT_KILLABLE_RECV) === true,
      }),
      follows: `a signal to a caller in a container of ${label} restarts its call`,
      remedy: runtime.remedyForSignals,
    },
    ...(older ? [older] : []),
  ]
}

/** Makes the probe of a runtime that uses an OCI runtime. */
const installation = (installed: Installed): Probe => ({
  name: installed.label,
  probe(machine) {
    const version = versionOf(machine, installed.program)
    return { ok: version !== undefined, found: version ?? 'not installed' }
  },
  follows: `containers of ${installed.label} are not available`,
  remedy: install(installed),
  remedyIfUnknown: mend(installed),
})

const installations: readonly Probe[] = [
  {
    name: 'an OCI runtime',
    needed: true,
    probe(machine) {
      const found = ociRuntimes.filter(({ installed }) => machine.which(installed.program) !== undefined)
      return { ok: found.length > 0, found: found.map(({ name }) => name).join(', ') }
    },
    follows: 'run cannot start containers, and serve gets none',
    remedy: install(ociRuntimes[0]!.installed),
  },
  {
    name: 'an init for the containers of run',
    probe({ which }) {
      const path = installedInit(which)
      return { ok: path !== undefined, found: path ?? 'not installed' }
    },
    follows: 'run starts containers only with --no-init; their command then gets only signals that it handles',
    remedy: `apt-get install ${INIT_PACKAGE}`,
  },
  ...ociRuntimes.flatMap(ociRuntime),
  ...otherRuntimes.flatMap(({ installed }) => (installed ? [installation(installed)] : [])),
  {
    name: 'lxcfs, whose /proc agrees with the key sysinfo',
    probe({ read }) {
      const [first] = lxcfsFiles(read('/proc/self/mounts')) ?? []
      return { ok: first !== undefined, found: first === undefined ? 'not mounted' : `as in ${first.source}` }
    },
    follows:
      'free, top and uptime show the machine to a container with sysinfo, and busybox, which reads both, nonsense',
    remedy:
      'apt-get install lxcfs && systemctl start lxcfs, and start the container with what "intercede flags" prints',
  },
  {
    name: 'nodes of images stay closed in podman',
    probe(machine) {
      if (versionOf(machine, podman.installed.program) === undefined) return { ok: true, found: 'not installed' }
      const ok = nodevStorage(machine.read) !== undefined
      const found = 'its storage is nodev; "intercede flags podman" tells with which options rm can remove nodes'
      return { ok, ...(ok ? { found } : {}) }
    },
    follows:
      'where the storage is not nodev, a container of crun in a user namespace opens every node that an image brings ' +
      'along, also one of a disk, if the cgroup manager is cgroupfs, as without systemd: it has no device rules then',
    remedy:
      'apt-get install containers-storage; if there is an /etc/containers/storage.conf, which replaces the file of that ' +
      'package, set mountopt = "nodev" in its [storage.options.overlay]',
    remedyIfUnknown: mend(podman.installed),
  },
]

/** All probes of `intercede doctor`, in the order of its report. */
export const probes: readonly Probe[] = [...kernelProbes, ...surroundings, ...installations]
