import { describe, expect, test } from 'vitest'
import { engineDefault, resolveGuards } from '../../../src/filter/base.ts'
import type { OciGuard, OciSeccomp } from '../../../src/filter/oci.ts'
import { machines } from '../../../src/filter/target.ts'
import { compile, execute, numberOf, seccompData, unable } from '../../support/libseccomp.ts'
import { withReason } from '../../support/skipped.ts'

const circumstances = { caps: new Set(['CAP_A', 'CAP_B']), arch: 'amd64', kernel: [5, 4] } as const

describe('resolveGuards()', () => {
  test.each<{ includes?: OciGuard; excludes?: OciGuard; used: boolean }>([
    { used: true },
    { includes: {}, excludes: {}, used: true },
    { includes: { caps: ['CAP_A'] }, used: true },
    { includes: { caps: ['CAP_A', 'CAP_C'] }, used: false },
    { excludes: { caps: ['CAP_C'] }, used: true },
    { excludes: { caps: ['CAP_C', 'CAP_B'] }, used: false },
    { includes: { arches: ['arm64', 'amd64'] }, used: true },
    { includes: { arches: ['arm64'] }, used: false },
    { excludes: { arches: ['amd64'] }, used: false },
    { includes: { minKernel: '4.8' }, used: true },
    { includes: { minKernel: '5.4' }, used: true },
    { includes: { minKernel: '5.10' }, used: false },
    { excludes: { minKernel: '4.8' }, used: false },
    { excludes: { minKernel: '5.4' }, used: false },
    { excludes: { minKernel: '5.10' }, used: true },
  ])('uses a rule with $includes and without $excludes: $used', ({ used, ...guards }) => {
    const base: OciSeccomp = {
      defaultAction: 'A',
      syscalls: [{ names: ['n'], action: 'B', args: [], comment: '', ...guards }],
    }
    expect(resolveGuards(base, 'X', circumstances).syscalls).toEqual(used ? [{ names: ['n'], action: 'B' }] : [])
  })

  test('takes an errno by its name, as podman does, and refuses one that it does not know', () => {
    const named = (errno: string): OciSeccomp => ({
      ...{ defaultAction: 'A', defaultErrno: errno, defaultErrnoRet: 1 },
      syscalls: [{ names: ['n'], action: 'B', errno, errnoRet: 1 }],
    })
    expect(resolveGuards(named('ENOSYS'), 'X', circumstances)).toEqual({
      ...{ defaultAction: 'A', defaultErrnoRet: 38 },
      syscalls: [{ names: ['n'], action: 'B', errnoRet: 38 }],
    })
    expect(resolveGuards(named(''), 'X', circumstances)).toMatchObject({ defaultErrnoRet: 1 })
    expect(() => resolveGuards(named('toString'), 'X', circumstances)).toThrow('"toString"')
  })

  test('takes the architectures of this machine', () => {
    const archMap = [
      { architecture: 'OTHER', subArchitectures: ['X'] },
      { architecture: 'X', subArchitectures: ['X32'] },
    ]
    expect(
      resolveGuards({ defaultAction: 'A', defaultErrno: 'EPERM', defaultErrnoRet: 1, archMap }, 'X', circumstances),
    ).toEqual({
      defaultAction: 'A',
      defaultErrnoRet: 1,
      architectures: ['X', 'X32'],
      syscalls: [],
    })
  })
})

const ALLOWED = 0x7fff_0000
const failing = (errno: number): number => 0x0005_0000 | errno
const [EPERM, EINVAL, ENOSYS] = [1, 22, 38].map(failing)
const NAMESPACES = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
const SIGCHLD = 17
const [AF_NETLINK, AF_ALG, AF_VSOCK, NETLINK_AUDIT] = [16, 38, 40, 9]

/** What the two engines publish, read by hand: a call, its arguments, and the verdicts of containerd and CRI-O. */
const published: readonly (readonly [string, readonly number[], number | undefined, number | undefined])[] = [
  ['unshare', [0x10000000], EPERM, ENOSYS],
  ...NAMESPACES.map((flag) => ['clone', [flag | SIGCHLD], EPERM, EPERM] as const),
  ['clone', [SIGCHLD], ALLOWED, ALLOWED],
  ['clone3', [], ENOSYS, ENOSYS],
  ...['bpf', 'perf_event_open', 'quotactl', 'sethostname'].map((name) => [name, [], EPERM, EPERM] as const),
  ...['open_by_handle_at', 'kcmp', 'init_module', 'acct', 'vhangup', 'kexec_load'].map(
    (name) => [name, [], EPERM, EPERM] as const,
  ),
  ...['mount', 'umount2', 'pivot_root', 'fsopen', 'move_mount', 'keyctl', 'setns', 'pidfd_getfd'].map(
    (name) => [name, [], EPERM, ALLOWED] as const,
  ),
  ['chroot', [], ALLOWED, EPERM],
  ['userfaultfd', [], EPERM, EPERM],
  ...['io_uring_setup', 'add_key', 'request_key'].map((name) => [name, [], EPERM, ENOSYS] as const),
  ['fanotify_init', [], EPERM, ALLOWED],
  ['lsm_set_self_attr', [], ALLOWED, ENOSYS],
  ['futex_wait', [], ALLOWED, EPERM],
  ...['ptrace', 'process_vm_readv', 'mknodat', 'setxattr', 'sysinfo', 'seccomp', 'sched_setscheduler'].map(
    (name) => [name, [], ALLOWED, ALLOWED] as const,
  ),
  ...[0, 8, 0x20000, 0x20008, 0xffffffff].map((value) => ['personality', [value], ALLOWED, ALLOWED] as const),
  ...[1, 0x40000, 0x20001].map((value) => ['personality', [value], EPERM, ENOSYS] as const),
  ...[1, 2, 10, 17].map((family) => ['socket', [family, 1, 0], ALLOWED, ALLOWED] as const),
  ['socket', [AF_NETLINK!, 3, 0], ALLOWED, ALLOWED],
  ['socket', [AF_NETLINK!, 3, NETLINK_AUDIT!], ALLOWED, EINVAL],
  ['socket', [AF_ALG!, 1, 0], EPERM, ALLOWED],
  ['socket', [AF_VSOCK!, 1, 0], EPERM, EPERM],
]

describe.skipIf(unable)(withReason('engineDefault() without added capabilities, as the kernel runs it', unable), () => {
  const kinds = [
    { machine: 'x64', arch: 'SCMP_ARCH_X86_64' },
    { machine: 'x64', arch: 'SCMP_ARCH_X32' },
    { machine: 'x64', arch: 'SCMP_ARCH_X86' },
    { machine: 'arm64', arch: 'SCMP_ARCH_AARCH64' },
  ] as const
  test.each(['containerd', 'cri-o'].flatMap((name) => kinds.map((kind) => ({ ...kind, name }))))(
    '$name answers for $arch as published',
    ({ machine, arch, name }) => {
      const { goArch, architectures } = machines[machine]!
      const { profile, caps } = engineDefault(name)!
      const facts = { caps: new Set(caps.map((cap) => `CAP_${cap}`)), arch: goArch, kernel: [6, 12] } as const
      const program = compile(resolveGuards(profile, architectures[0], facts))
      for (const [call, args, ofContainerd, ofCrio] of published) {
        const nr = numberOf(call, arch)
        if (nr === undefined) continue
        const registers = [...args, 0, 0, 0, 0, 0, 0].slice(0, 6).map(BigInt)
        const verdict = execute(program, seccompData(nr, arch, registers))
        expect({ call, args, verdict }).toEqual({ call, args, verdict: name === 'containerd' ? ofContainerd : ofCrio })
      }
    },
  )
})
