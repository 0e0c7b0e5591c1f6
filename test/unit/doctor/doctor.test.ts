import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { examine } from '../../../src/doctor/doctor.ts'
import type { HostFacts } from '../../../src/doctor/host-facts.ts'
import { flawOfNull } from '../../../src/doctor/host-facts.ts'
import { targetHere } from '../../../src/doctor/probes.ts'
import type { KernelFeature } from '../../../src/kernel/probe.ts'
import { podman } from '../../../src/runtimes/known/podman.ts'
import { runc } from '../../../src/runtimes/known/runc.ts'

const FEATURES: readonly KernelFeature[] = [
  'userNotification',
  'waitKillableRecv',
  'syncWakeUp',
  'addfdSend',
  'pidTranslation',
  'bpfTokens',
  'resolveCached',
  'uniqueMountIds',
  'fileComparison',
  'mountSetattr',
  'copyDetached',
  'overlay',
]
const FILES: Record<string, string> = {
  '/proc/self/status': 'CapEff:\t000001ffffffffff\n',
  '/proc/sys/user/max_user_namespaces': '15000\n',
  '/proc/self/mounts': 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nlxcfs /var/lib/lxcfs fuse.lxcfs rw 0 0\n',
  '/usr/share/containers/storage.conf': '[storage.options.overlay]\nmountopt = "nodev"\n',
}
const LINKS: Record<string, string> = {
  '/proc/self/ns/user': 'user:[4026531837]',
  '/proc/self/ns/pid': 'pid:[4026531836]',
}

/** A machine on which all is well, but for the given features of its kernel. */
function machine(lacks: readonly KernelFeature[], changes: Partial<HostFacts> = {}): HostFacts {
  return {
    release: '6.18.0',
    arch: 'x64',
    node: '24.0.0',
    kernel: Object.fromEntries(FEATURES.map((name) => [name, () => !lacks.includes(name)])) as HostFacts['kernel'],
    read: (path) => FILES[path] ?? '',
    link: (path) => LINKS[path],
    which: (program) => `/usr/bin/${program}`,
    contains: () => true,
    openToOthers: () => undefined,
    configFlaw: () => undefined,
    daemon: () => ({ ok: true }),
    nullFlaw: () => undefined,
    run: (program, argument) => (argument === 'features' ? '["SCMP_ACT_NOTIFY"]' : `${program} version 1.100`),
    ...changes,
  }
}

const reading = (changes: Record<string, string>): Partial<HostFacts> => ({
  read: (path) => changes[path] ?? FILES[path] ?? '',
})

/** Missing on every machine, since profiles for runc have no flags. */
const RUNC = 'runc with WAIT_KILLABLE_RECV'
const faultsOf = (on: HostFacts) => examine(on).diagnoses.filter(({ health, name }) => health !== 'ok' && name !== RUNC)

test('examine() finds nothing on a machine where all is well', () => {
  expect(examine(machine([])).able).toBe(true)
  expect(faultsOf(machine([]))).toEqual([])
})

test('examine() says that signals restart calls in containers of runc, whose profiles have no flags', () => {
  const runcs = examine(machine([])).diagnoses.filter(({ name }) => name === RUNC)
  expect(runcs).toMatchObject([{ health: 'missing', needed: false, remedy: 'use crun' }])
})

test('examine() says without root what it could not see, and calls nothing missing for that, in words', () => {
  const refused = (): never => {
    throw new Error('fsopen: EPERM')
  }
  const user = machine([], { ...reading({ '/proc/self/status': 'CapEff:\t0000000000000000\n' }), run: () => undefined })
  const { diagnoses, isRoot } = examine({ ...user, kernel: { ...user.kernel, overlay: refused } })
  for (const name of ['overlayfs', 'podman', 'LXC'])
    expect(diagnoses.find((each) => each.name === name)).toMatchObject({
      ...{ health: 'unknown', follows: 'only root can see this', remedy: 'run intercede doctor as root, with sudo' },
      found: expect.stringMatching(/EPERM|"\/usr\/bin\/[a-z-]+ --version" does not say/),
    })
  expect(isRoot).toBe(false)
})

test.each<{ what: string; on: HostFacts; missing: string; able: boolean; remedy: RegExp }>([
  {
    what: 'a checkout of somebody else',
    on: machine([], { openToOthers: () => '"/home/x" belongs to user 1000: chown root "/home/x"' }),
    missing: "intercede's own files",
    able: false,
    remedy: /to root/,
  },
  {
    what: 'a configuration with which serve does not start',
    on: machine([], { configFlaw: () => 'Cannot read configuration "/etc/intercede/config.yaml": unknown key "x"' }),
    missing: 'the configuration',
    able: false,
    remedy: /--check-config/,
  },
  {
    what: 'a daemon that cannot write its history',
    on: machine([], { daemon: () => ({ ok: false, found: 'Cannot write history in "/var/lib/intercede": ENOSPC' }) }),
    missing: 'the running daemon',
    able: true,
    remedy: /journalctl/,
  },
  {
    what: 'a daemon whose containers of before are not served',
    on: machine([], { daemon: () => ({ ok: false, found: '1 container is not served', remedy: 'restart it' }) }),
    missing: 'the running daemon',
    able: true,
    remedy: /^restart it$/,
  },
  {
    what: 'a null device that a container has got',
    on: machine([], { nullFlaw: () => flawOfNull({ uid: 1_000_000_000, mode: 0o20666 }, new Set([0])) }),
    missing: 'the null device',
    able: true,
    remedy: /chown root:root .* -i$/,
  },
  {
    what: 'a machine without lxcfs',
    on: machine([], reading({ '/proc/self/mounts': 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n' })),
    missing: 'lxcfs, whose /proc agrees with the key sysinfo',
    able: true,
    remedy: /apt-get install lxcfs/,
  },
  {
    what: 'podman without the storage options of Debian',
    on: machine([], reading({ '/usr/share/containers/storage.conf': '' })),
    missing: 'nodes of images stay closed in podman',
    able: true,
    remedy: /containers-storage/,
  },
  {
    what: 'a chroot without /proc, and blames nothing else',
    on: machine([], { read: () => '' }),
    missing: '/proc',
    able: false,
    remedy: /^mount -t proc/,
  },
  {
    what: 'a kernel without notification',
    on: machine(['userNotification']),
    missing: 'seccomp user notification',
    able: false,
    remedy: /Linux 5\.9/,
  },
  {
    what: 'a kernel that cancels calls at a signal',
    on: machine(['waitKillableRecv']),
    missing: 'notifications that outlive signals (WAIT_KILLABLE_RECV)',
    able: true,
    remedy: /Linux 5\.19/,
  },
  {
    what: 'an ordinary user',
    // That it cannot raise limits goes without saying.
    on: machine([], reading({ '/proc/self/status': 'CapEff:\t0000000001000000\n' })),
    missing: 'capabilities of this process',
    able: false,
    remedy: /sudo/,
  },
  {
    what: 'a root that cannot raise limits',
    on: machine([], reading({ '/proc/self/status': 'CapEff:\t000001fffeffffff\n' })),
    missing: 'the capability to raise limits (CAP_SYS_RESOURCE)',
    able: true,
    remedy: /CapabilityBoundingSet/,
  },
  {
    what: 'the inside of a container',
    on: machine([], { link: (path) => LINKS[path]?.replace('4026531837', '4026532000') }),
    missing: "the host's user namespace",
    able: false,
    remedy: /on the host/,
  },
  {
    what: 'user namespaces switched off',
    on: machine([], reading({ '/proc/sys/user/max_user_namespaces': '0\n' })),
    missing: 'user namespaces',
    able: false,
    remedy: /sysctl/,
  },
  {
    what: 'a chroot, in which the kernel makes no user namespaces',
    on: machine([], {
      run: (program, ...args) => (program === 'unshare' ? undefined : machine([]).run(program, ...args)),
    }),
    missing: 'user namespaces',
    able: false,
    remedy: /chroot/,
  },
  {
    what: 'cgroup v1 alone',
    on: machine(
      [],
      reading({ '/proc/self/mounts': 'cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nlxcfs /l fuse.lxcfs rw 0 0\n' }),
    ),
    missing: 'cgroup v2',
    able: true,
    remedy: /unified/,
  },
  {
    what: 'a default range that somebody else has',
    on: machine([], reading({ '/etc/subuid': 'alice:2000000000:65536\n', '/etc/subgid': 'alice:2000000000:65536\n' })),
    missing: 'ids for the containers of run',
    able: true,
    remedy: /\/etc\/subuid/,
  },
  {
    what: 'a crun that does not know the flag',
    on: machine([], { contains: (path, text) => !path.endsWith('crun') || text === 'SECCOMP_FILTER_FLAG_' }),
    missing: 'crun with WAIT_KILLABLE_RECV',
    able: true,
    remedy: /newer crun/,
  },
  {
    what: 'a crun that gives away the null device',
    on: machine([], {
      run: (program, argument) => (argument === 'features' ? '["SCMP_ACT_NOTIFY"]' : `${program} version 1.23.1`),
    }),
    missing: 'crun keeps the null device of the host',
    able: true,
    remedy: /crun 1\.24/,
  },
  {
    what: 'an old Node',
    on: machine([], { node: '20.18.3' }),
    missing: 'Node',
    able: false,
    remedy: /20\.19/,
  },
])('examine() finds $what', ({ on, missing, able, remedy }) => {
  expect(faultsOf(on)).toMatchObject([
    {
      name: missing,
      health: 'missing',
      needed: !able,
      follows: expect.stringMatching(/./),
      remedy: expect.stringMatching(remedy),
    },
  ])
  expect(examine(on).able).toBe(able)
})

const [ALLOWS, KILLABLE] = ['SECCOMP_FILTER_FLAG_SPEC_ALLOW', 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV']
test.each<{ what: string; on: HostFacts; flags: string[] }>([
  { what: 'both know all flags', on: machine([]), flags: [ALLOWS, KILLABLE] },
  { what: 'the kernel is too old for one', on: machine(['waitKillableRecv']), flags: [ALLOWS] },
  {
    what: 'the runtime is too old for one',
    on: machine([], { contains: (_, text) => text !== KILLABLE }),
    flags: [ALLOWS],
  },
  { what: 'a script starts the runtime', on: machine([], { contains: () => false }), flags: [ALLOWS, KILLABLE] },
  { what: 'the runtime is elsewhere', on: machine([], { which: () => undefined }), flags: [ALLOWS, KILLABLE] },
])('targetHere() has the flags that a container starts with if $what', ({ on, flags }) => {
  expect(targetHere(podman.target, on).flags).toEqual(flags)
  expect(targetHere(runc.target, on).flags).toEqual([])
})

test('README names the oldest kernel on which nothing is missing that is needed', () => {
  const { diagnoses } = examine(machine(FEATURES))
  const taken = diagnoses
    .filter(({ needed, health }) => needed && health !== 'ok')
    .map(({ remedy }) => Number(/Linux 5\.(\d+)/.exec(remedy)?.[1]))
  expect(taken.length).toBeGreaterThan(2)
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
  expect(readme).toContain(`- Linux 5.${Math.max(...taken)} or later`)
})

test('examine() says before it happens that the ids of containers will be others', () => {
  const line = 'intercede:700000000:65536\n'
  const files = { '/etc/subuid': line, '/etc/subgid': line, '/var/lib/intercede/run-ids': '2000000000 2000000000\n' }
  const found = (on: HostFacts) => examine(on).diagnoses.find(({ name }) => name === 'ids for the containers of run')
  expect(found(machine([], reading(files)))?.found).toMatch(
    /from 700000000.*; with the next run .*before at 2000000000/,
  )
  expect(found(machine([]))?.found).toBe('65536 user ids from 2000000000, group ids from 2000000000')
})

test('examine() finds no runtime at all', () => {
  const { able, diagnoses } = examine(machine([], { which: () => undefined, run: () => undefined }))
  expect(able).toBe(false)
  expect(diagnoses.filter(({ health }) => health !== 'ok').map(({ name }) => name)).toContain('an OCI runtime')
})

test('examine() says unknown where the kernel would not be asked', () => {
  const kernel = {
    ...machine([]).kernel,
    syncWakeUp: () => {
      throw new Error('seccomp: EBUSY')
    },
  }
  expect(faultsOf(machine([], { kernel }))).toMatchObject([{ health: 'unknown', found: 'seccomp: EBUSY' }])
})

test('examine() says nothing good of a storage.conf with which podman fails, and what to do', () => {
  const all = machine([])
  const bare = { '/etc/containers/storage.conf': '[storage.options.overlay]\nmountopt = "nodev"\n' }
  const run: HostFacts['run'] = (program, ...args) => (program === 'podman' ? undefined : all.run(program, ...args))
  const remedy = 'run "podman --version", and mend what it complains about'
  expect(faultsOf(machine([], { ...reading(bare), run }))).toMatchObject(
    ['podman', 'nodes of images stay closed in podman'].map((name) => ({ name, health: 'unknown', remedy })),
  )
})

test('examine() says that serve --user can work in the user namespace of a user', () => {
  const inside = { link: (path: string) => LINKS[path]?.replace('4026531837', '4026532000') }
  expect(examine(machine([], inside))).toMatchObject({ able: false, ableForUser: true })
  expect(examine(machine(['userNotification'], inside))).toMatchObject({ able: false, ableForUser: false })
  expect(examine(machine([]))).toMatchObject({ able: true, ableForUser: false })
})
