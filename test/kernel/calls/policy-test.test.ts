import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { errnoName } from '../../../src/abi/errno.ts'
import { type CallRecord, WORDS } from '../../../src/calls/record.ts'
import { settle, toPolicy } from '../../../src/policy/settings.ts'
import type { CallerDescription } from '../../../src/syscalls/caller-facts.ts'
import { BASE, type Done, directory, execute, Host } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { lacks } from '../../support/skipped.ts'

const KEYS = {
  mknod: 'true',
  'mknod.devices': 'c:10:200',
  sysinfo: 'true',
  setxattr: 'true',
  sched_setscheduler: 'true',
  mount: 'true',
  'mount.allowed': 'ext4',
  'mount.fuse': 'xfs=fusexfs',
  bpf: 'true',
  'bpf.devices': 'true',
}
const settings = settle(Object.entries(KEYS))

/** A call in Perl and as a case has it, with what is not usual about its caller. Names stand for the call's number. */
interface Same {
  readonly perl: string
  readonly call: string
  readonly caller?: CallerDescription
}
const mknod = (path: string, mode: string, dev: number, numbers: string, caller?: CallerDescription): Same => ({
  perl: `133, "${path}", ${mode}, ${dev}`,
  call: `mknod("${path}", ${mode}, ${numbers})`,
  ...(caller ? { caller } : {}),
})
const xattr = (path: string, name: string, value: string, flags = 0, caller?: CallerDescription): Same => ({
  perl: `188, "${path}", "${name}", "${value}", 1, ${flags}`,
  call: `setxattr("${path}", "${name}", "${value}", 1, ${flags})`,
  ...(caller ? { caller } : {}),
})
const mount = (type: string, flags = 0, data = ''): Same => ({
  perl: `165, "none", "m", "${type}", ${flags}, ${data ? `"${data}"` : 0}`,
  call: `mount("none", "m", "${type}", ${flags}, ${data ? `"${data}"` : 'NULL'})`,
})
const scheduled = (policy: number, priority: number, pid = 0, caller?: CallerDescription): Same => ({
  perl: `144, ${pid}, ${policy}, pack("i", ${priority})`,
  call: `sched_setscheduler(${pid}, ${policy}, [${priority}])`,
  ...(caller ? { caller } : {}),
})

const CALLS: readonly Same[] = [
  mknod('null', '020666', 0x103, '1:3'),
  mknod('tun', '020600', 0xac8, '10:200'),
  mknod('mem', '020666', 0x101, '1:1'),
  mknod('whiteout', '020000', 0, '0:0'),
  mknod('none/null', '020666', 0x103, '1:3', { path: { errno: 'ENOENT' } }),
  mknod('', '020666', 0x103, '1:3'),
  { perl: '133, 0, 020666, 0x103', call: 'mknod(NULL, 020666, 1:3)' },
  { perl: '259, -100, "full", 020666, 0x107', call: 'mknodat(AT_FDCWD, "full", S_IFCHR|0666, 1:7)' },
  xattr('d', 'trusted.overlay.opaque', 'y'),
  xattr('d', 'trusted.overlay.opaque', 'n'),
  xattr('d', 'trusted.other', 'y'),
  xattr('d', 'user.note', 'y'),
  xattr('d', 'trusted.overlay.opaque', 'y', 4),
  xattr('/', 'trusted.overlay.opaque', 'y', 0, { path: { owner: 'unmapped' } }),
  scheduled(0, 0),
  scheduled(1, 10),
  scheduled(1, 50),
  scheduled(1, 100),
  scheduled(6, 0),
  scheduled(4, 0),
  scheduled(0, 5),
  // Where the kernel cannot translate pids, the engine leaves such calls for that: no case describes a kernel.
  ...(lacks('pidTranslation') ? [] : [scheduled(0, 0, 1_000_000, { task: 'none' })]),
  {
    perl: '142, 0, pack("i", 3)',
    call: 'sched_setparam(0, [3])',
    caller: { task: { policy: 'SCHED_FIFO', priority: 10 } },
  },
  {
    perl: '314, 0, pack("LLQlLQQQ", 48, 2, 0, 0, 5, 0, 0, 0), 0',
    call: 'sched_setattr(0, {size=48, sched_policy=SCHED_RR, sched_priority=5}, 0)',
  },
  {
    perl: '314, 0, pack("LLQlLQQQ", 48, 6, 0, 0, 0, 1, 2, 3), 0',
    call: 'sched_setattr(0, {size=48, sched_policy=SCHED_DEADLINE, sched_runtime=1, sched_deadline=2, sched_period=3}, 0)',
  },
  mount('btrfs'),
  mount('EXT4'),
  mount('proc'),
  // Its source is no device, which the kernel finds out.
  { perl: '165, "/dev/null", "m", "ext4", 0, 0', call: 'mount("/dev/null", "m", "ext4", 0, NULL)' },
  { perl: '165, 0, "m", 0, 0x20, 0', call: 'mount(NULL, "m", NULL, MS_REMOUNT, NULL)' },
  {
    perl: '165, 0, "/proc", 0, 0x20, 0',
    call: 'mount(NULL, "/proc", NULL, MS_REMOUNT, NULL)',
    caller: { path: { mountedBy: 'container' } },
  },
  { perl: '432, 0, 0, 0', call: 'fsmount(0, 0, 0)', caller: { descriptors: { 0: { is: 'other' } } } },
  {
    perl: '429, 0, "", -100, "m", 4',
    call: 'move_mount(0, "", AT_FDCWD, "m", MOVE_MOUNT_F_EMPTY_PATH)',
    caller: { descriptors: { 0: { is: 'other' } } },
  },
  mount('ext4', 0, 'errors=panic'),
  mount('ext4', 0, 'context=x'),
  { perl: '165, 0, "m", "ext4", 0, "source=mtd0"', call: 'mount(NULL, "m", "ext4", 0, "source=mtd0")' },
  { perl: '430, "xfs", 0', call: 'fsopen("xfs", 0)' },
  { perl: '430, "btrfs", 0', call: 'fsopen("btrfs", 0)' },
  { perl: '430, "ext4", 8', call: 'fsopen("ext4", 8)' },
  { perl: '99, "x" x 200', call: 'sysinfo(0x1000)' },
  { perl: '321, 0, "\\0" x 100, 72', call: 'bpf(BPF_MAP_CREATE, NULL, 72)' },
  { perl: '321, 5, pack("L", 1) . "\\0" x 140, 144', call: 'bpf(BPF_PROG_LOAD, {prog_type=1}, 144)' },
  // A mounter does it, whose record comes later.
  { perl: '430, "ext4", 1', call: 'fsopen("ext4", FSOPEN_CLOEXEC)' },
]

let host: Host
let records: readonly CallRecord[]
let file: string
const run = (...args: readonly string[]): Promise<Done> => execute(process.execPath, [CLI, 'test', ...args])

/** What acts come to is not what was decided. */
const expectedOf = ({ verdict, errno, reason }: CallRecord) =>
  reason === 'kernelAnswered'
    ? { expect: 'done' }
    : { expect: verdict === 'errno' ? `error ${errnoName(errno)}` : WORDS[verdict], reason }

beforeAll(async () => {
  host = await Host.start(undefined, { resolve: () => ({ policy: toPolicy(settings), settings, details: {} }) })
  const work = directory(join(host.directory, 'work'), BASE, 0o755)
  for (const name of ['d', 'm']) directory(join(work, name), BASE, 0o755)
  // Perl takes no constants for texts, which the kernel might change. The pause lets each record come before the next.
  const script = CALLS.map(({ perl }) => `c(${perl});`).join('\n')
  const command = `cd ${work} && exec unshare --mount --propagation unchanged perl -e 'sub c { my ($n, @a) = @_; syscall($n, @a); select undef, undef, undef, 0.01 } ${script}'`
  const options = ['--mounts', '--sched', '--xattr', '--bpf', '--all-sysinfo', '--id', 'tested']
  const done = await host.run(options, ['sh', '-c', command])
  expect(done).toMatchObject({ status: 0, stderr: '' })
  await host.settle(0)
  // The first process waits for the daemon by a call that is not served.
  records = host.records.filter(({ reason }) => reason !== 'notServed')
  file = join(host.directory, 'cases.yaml')
  const tests = CALLS.map(({ call, caller }, index) => ({
    call,
    ...(caller ? { caller } : {}),
    ...(records[index] ? expectedOf(records[index]) : { expect: 'no record' }),
  }))
  writeFileSync(file, stringify({ policy: KEYS, tests }))
})
afterAll(() => host?.close())

describe('policy tests say what the engine says', () => {
  test('of each call of a real container, with outcome, errno and reason', async () => {
    expect(records.map(({ reason }) => reason)).toHaveLength(CALLS.length)
    expect(new Set(records.map(({ reason }) => reason)).size).toBeGreaterThan(20)
    expect(await run(file)).toEqual({ status: 0, stdout: `${CALLS.length} cases passed, 0 failed\n`, stderr: '' })
  })

  test('and records make a file that passes', async () => {
    const { status, stdout, stderr } = await run('--from-records', 'tested', '--feed', host.feedSocket)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const made = join(host.directory, 'made.yaml')
    writeFileSync(made, stdout)
    const tested = await run(made)
    expect(tested).toMatchObject({ status: 0, stderr: '' })
    expect(Number.parseInt(tested.stdout, 10)).toBeGreaterThan(20)
    // The priority was in memory, which no record has.
    expect(stdout).toMatch(/^# {3}sched_setscheduler\(0, SCHED_FIFO, 0x/m)
  })

  test('nobody writes a file of a container without calls, or of none', async () => {
    await host.run(['--id', 'silent'], ['true'])
    for (const name of ['silent', 'absent']) {
      const { status, stdout, stderr } = await run('--from-records', name, '--feed', host.feedSocket)
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
      expect(stderr).toMatch(/^intercede: Cannot (write cases|find container).*\n$/)
    }
  })
})
