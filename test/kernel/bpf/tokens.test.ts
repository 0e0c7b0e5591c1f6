import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FSCONFIG } from '../../../src/abi/mount.ts'
import { delegations } from '../../../src/policy/delegations.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { devicePrograms, execute, Host, USERNS, until } from '../../support/host.ts'
import { endEngine } from '../../support/mounters.ts'
import { lacks, withReason } from '../../support/skipped.ts'

const cannot = missing('gcc') ?? lacks('bpfTokens')

const bpf = {
  ...devicePrograms,
  devices: false,
  delegateCmds: new Set(['prog_load', 'map_create']),
  delegateMaps: new Set(['hash']),
  delegateProgs: new Set(['socket_filter', 'xdp']),
  delegateAttachs: new Set(['cgroup_inet_ingress', 'xdp']),
} satisfies Policy['bpf']

const { SET_STRING: STRING, CMD_CREATE: CREATE, CMD_RECONFIGURE: RECONFIGURE } = FSCONFIG
const option = (name: string, value: string, context = 0): string =>
  `fsconfig =${context} ${STRING} s:${name} s:${value} 0`
const create = (context = 0): string => `fsconfig =${context} ${CREATE} null null 0`
/** Each call is one step, so that later ones can name what it returned. */
const DESCRIBED = [
  '@fsopen s:bpf 0',
  option('delegate_cmds', 'prog_load:map_create'),
  option('delegate_maps', 'hash'),
  option('delegate_progs', 'XDP:socket_filter'),
  option('delegate_attachs', '0x2000000001'),
]
const MOUNTED = [...DESCRIBED, create(), '@fsmount =0 0 0', '@openat =6 s:. 0']
const TOKEN_CREATE = 36
const token = `@bpf ${TOKEN_CREATE} t:4@0+4@=7 8`
/** The number of the step that makes the token. */
const TOKEN = 8
const TOKEN_FLAG = 0x1_0000
const zeros = (count: number): string => Array.from({ length: count }, () => '4@0').join('+')
/** @param type of a map with keys and values of 4 bytes */
const map = (type: number): string => `bpf 0 t:4@${type}+4@4+4@4+4@1+4@${TOKEN_FLAG}+${zeros(14)}+4@=${TOKEN} 80`
const NOTHING = '0xb7/0x95'
/** Reads 8 bytes of the kernel's memory: r1 = r10 - 8, r2 = 8, r3 = 0, bpf_probe_read_kernel(). */
const READER = `0xa1bf/0xfffffff800000107/0x8000002b7/0x3b7/0x7100000085/${NOTHING}`
const program = (type: number, attachment: number, code = NOTHING): string =>
  `bpf 5 t:4@${type}+4@${code.split('/').length}+8@w:${code}+8@s:GPL+${zeros(5)}+4@${TOKEN_FLAG}+${zeros(5)}+4@${attachment}+${zeros(18)}+4@=${TOKEN} 148`
const [HASH, ARRAY, SOCKET_FILTER, KPROBE, SCHED_CLS, XDP, ATTACH_XDP] = [1, 2, 1, 2, 3, 6, 37]

const [CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF] = [12, 21, 38, 39]
/** Keeps only these capabilities. */
function keep(...caps: readonly number[]): string {
  const half = (from: number): number =>
    caps.reduce((bits, cap) => (cap >= from && cap < from + 32 ? bits + 2 ** (cap - from) : bits), 0)
  const [low, high] = [half(0), half(32)]
  return `capset t:4@0x20080522+4@0 t:4@${low}+4@${low}+4@0+4@${high}+4@${high}+4@0`
}
const WEAK = `@${keep(CAP_BPF, CAP_NET_ADMIN)}`

const words = (steps: readonly string[]): readonly string[] => steps.join(' , ').split(' ')

describe.skipIf(cannot)(withReason('BPF tokens of a container', cannot), () => {
  let host: Host
  beforeAll(async () => {
    host = await Host.start({ bpf })
    host.mayLoseEngine = true
  })
  afterAll(() => host?.close())

  /** @returns what each call that is not silent said */
  async function calls(
    steps: readonly string[],
    within: readonly string[] = [],
    options: readonly string[] = [],
  ): Promise<readonly string[]> {
    const command = [...within, fixture('call-steps'), ...words(steps)]
    const { stdout, stderr } = await host.run(['--mounts', '--bpf', ...options], ['unshare', '--mount', ...command])
    return `${stdout.trim()}${stderr}`.split(', ')
  }
  const why = (): readonly string[] => {
    host.drain()
    return host.records.map(({ reason }) => reason)
  }

  test('it makes a token, and with that a map and programs of the listed types, and no others', async () => {
    const said = await calls([
      ...MOUNTED,
      token,
      WEAK,
      ...[map(HASH), map(ARRAY), program(SOCKET_FILTER, 0), program(XDP, ATTACH_XDP)],
      ...[program(SCHED_CLS, 0), program(KPROBE, 0)],
    ])
    expect(said).toEqual(['ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'EPERM', 'ok', 'ok', 'EPERM', 'EPERM'])
  })

  test.each([
    { who: 'CAP_SYS_ADMIN', caps: [CAP_SYS_ADMIN] },
    { who: 'CAP_PERFMON', caps: [CAP_PERFMON, CAP_BPF, CAP_NET_ADMIN] },
  ])('nobody with $who uses a token, which would let a program read the memory of the kernel', async ({ caps }) => {
    const refused = (): number => {
      host.drain()
      return why().filter((reason) => reason === 'readsKernel').length
    }
    const before = refused()
    const uses = [map(HASH), program(SOCKET_FILTER, 0), program(SOCKET_FILTER, 0, READER)]
    const said = await calls([...MOUNTED, token, `@${keep(...caps)}`, ...uses])
    expect(said.slice(-3)).toEqual(['EPERM', 'EPERM', 'EPERM'])
    await until('each is recorded with its reason', () => refused() === before + 3)
  })

  test('nobody who has more groups than are read uses a token', async () => {
    const uses = [map(HASH), program(SOCKET_FILTER, 0), program(SOCKET_FILTER, 0, READER)]
    const said = await calls([...MOUNTED, token, '@setgroups 1025 p:4100', ...uses])
    expect(said.slice(-3)).toEqual(['EPERM', 'EPERM', 'EPERM'])
    expect(why()).toContain('tooManyGroups')
  })

  test('a program of a token does not read the memory of the kernel', async () => {
    expect((await calls([...MOUNTED, token, WEAK, program(SOCKET_FILTER, 0, READER)])).at(-1)).toMatch(/EINVAL|EPERM/)
  })

  test('mount(8) mounts it, with the options that native root sees', async () => {
    const options = 'delegate_cmds=prog_load,delegate_progs=xdp,mode=0750'
    const script = `mount -t bpf -o ${options} bpf /mnt && grep -o 'bpf bpf .*' /proc/self/mountinfo && stat -c '%a %u' /mnt`
    const { stdout, stderr } = await host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', script])
    expect([stdout.split('\n').slice(-3), stderr]).toEqual([
      [expect.stringMatching(/delegate_cmds=prog_load,delegate_progs=xdp/), '1750 0', ''],
      '',
    ])
  })

  test('what the kernel puts into a bpffs is closed to the container', async () => {
    const script = 'mount -t bpf -o delegate_cmds=prog_load bpf /mnt && cat /mnt/*.debug; true'
    const { stdout } = await host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', script])
    expect(stdout).toBe('')
  })

  test.each([
    { what: 'a value that is not listed', value: 'btf_load', reason: 'notDelegated' },
    { what: 'one among listed ones', value: 'prog_load:btf_load', reason: 'notDelegated' },
    { what: 'everything', value: 'any', reason: 'neverDelegated' },
    { what: 'a command that opens by number', value: 'PROG_GET_FD_BY_ID', reason: 'neverDelegated' },
    { what: 'an unknown bit', value: '0x8000000000000000', reason: 'neverDelegated' },
    { what: 'a number that replaces a listed value', value: 'prog_load:2', reason: 'neverDelegated' },
  ])('$what is EPERM: $reason', async ({ value, reason }) => {
    const before = host.records.length
    expect(await calls(['@fsopen s:bpf 0', option('delegate_cmds', value)])).toEqual(['EPERM'])
    await host.settle(before)
    expect(why().slice(before)).toContain(reason)
  })

  test.each([
    { what: 'nonsense', value: 'nonsense' },
    { what: 'an empty word', value: 'prog_load:' },
    { what: 'a number beyond 64 bits', value: '0x10000000000000000', errno: 'ERANGE' },
    { what: 'a negative number', value: '-1' },
  ])('$what is refused by the kernel', async ({ value, errno = 'EINVAL' }) => {
    expect(await calls(['@fsopen s:bpf 0', option('delegate_cmds', value)])).toEqual([errno])
  })

  test('a context without such an option is left to the kernel', async () => {
    expect(await calls(['@fsopen s:bpf 0', option('mode', '0700'), create()])).toEqual(['ok', 'EPERM'])
  })

  test.each(['ext4', 'hugetlbfs', 'tmpfs', 'overlay', 'proc', 'cgroup2'])(
    'a context of %s gets nothing: the kernel says of which type it is',
    async (type) => {
      const before = host.records.length
      expect(await calls([`@fsopen s:${type} 0`, option('delegate_cmds', 'prog_load')])).toEqual(['EINVAL'])
      await host.settle(before)
      expect(why().slice(before)).toContain('notBpffs')
    },
  )

  test('once the descriptor is that of another context, what was recorded is no longer meant', async () => {
    const another = ['@close =0', '@fsopen s:bpf 0', create()]
    expect(await calls(['@fsopen s:bpf 0', option('delegate_cmds', 'prog_load'), ...another])).toEqual(['ok', 'EPERM'])
  })

  test('a child user namespace gets nothing', async () => {
    const within = ['unshare', '--user', '--map-root-user', '--mount']
    expect(await calls(DESCRIBED.slice(0, 2), within)).toEqual(['EPERM'])
  })

  test('a caller without capabilities gets nothing, neither described nor made', async () => {
    const nothing = `@capset t:4@0x20080522+4@0 t:${zeros(6)}`
    const [opened = '', commands = ''] = DESCRIBED
    expect(await calls([opened, nothing, commands])).toEqual(['EPERM'])
    expect(await calls([opened, commands, nothing, create()])).toEqual(['ok', 'EPERM'])
  })

  test.each([
    { what: 'a filter with WAIT_KILLABLE_RECV', options: [] },
    { what: 'one without', options: ['--no-killable'] },
  ])('made once, the context takes no more, under $what', async ({ options }) => {
    const again = [
      option('delegate_cmds', 'map_create'),
      create(),
      '@fsmount =0 0 0',
      option('delegate_cmds', 'map_create'),
    ]
    const said = await calls([...DESCRIBED, create(), ...again, `fsconfig =0 ${RECONFIGURE} null null 0`], [], options)
    expect(said.slice(4)).toEqual(['ok', 'EBUSY', 'EBUSY', 'EPERM', 'ok'])
  })

  test('an engine that ends between the calls changes nothing', async () => {
    const steps = [
      ...DESCRIBED.slice(0, 3),
      '@read 0 p:1 1',
      create(),
      '@fsmount =0 0 0',
      '@openat =5 s:. 0',
      '%umask 0',
    ]
    const child = spawn(fixture('filtered'), [
      ...[host.socket, '--userns', USERNS, '--await-agent', '--mounts', '--bpf', '--'],
      ...['unshare', '--mount', fixture('call-steps'), ...words(steps)],
    ])
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const records = host.records.length
    await host.settle(records)
    await endEngine(host)
    child.stdin.write('.')
    await until('it has ended', () => child.exitCode !== null)
    expect(said).toMatch(/^ok, ok, ok, /)
  })
})

/** linux/bpf.h, by which the names are read: our numbers are what the kernel gets. */
const HEADER = '/usr/include/linux/bpf.h'
const PREFIXES = {
  delegate_cmds: 'bpf_cmd BPF_',
  delegate_maps: 'bpf_map_type BPF_MAP_TYPE_',
  delegate_progs: 'bpf_prog_type BPF_PROG_TYPE_',
  delegate_attachs: 'bpf_attach_type BPF_',
}
const noCompiler = missing('gcc')
test.skipIf(noCompiler)(withReason('the numbers of all names are those of the kernel', noCompiler), async () => {
  const header = readFileSync(HEADER, 'latin1')
  const known = delegations.flatMap(({ option: name, names }) => {
    const [type = '', prefix = ''] = PREFIXES[name].split(' ')
    const body = new RegExp(`enum ${type} \\{([^}]*)\\}`).exec(header)![1]!
    return names.flatMap((value, number) => {
      const constant = prefix + value.toUpperCase()
      return new RegExp(`\\b${constant}\\b`).test(body)
        ? [`_Static_assert(${constant} == ${number}, "${constant}");`]
        : []
    })
  })
  expect(known.length).toBeGreaterThan(150)
  const source = `#include <linux/bpf.h>\n${known.join('\n')}\n`
  const { status, stderr } = await execute('sh', ['-c', `printf '%s' '${source}' | gcc -x c -fsyntax-only -`])
  expect([status, stderr]).toEqual([0, ''])
})
