import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { uptime } from 'node:os'
import { createInterface, type Interface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Policy } from '../../../src/policy/policy.ts'
import { BITS, fixture, no32 } from '../../support/fixtures.ts'
import { MemoryGroup, TaskGroup, unlimitable } from '../../support/groups.ts'
import { type Done, execute, Host, USERNS } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'

const MiB = 2 ** 20
const LIMIT = 123 * MiB
const policy: Policy = { sysinfo: {} }

interface Info {
  readonly [name: string]: number
}

let host: Host
beforeAll(async () => {
  host = await Host.start(policy)
})
afterAll(() => host.close())

const program = (bits: 32 | 64): string => fixture('sysinfo', bits === 32 ? ['-m32', '-static'] : [])
const container = (...command: readonly string[]): readonly string[] => [
  ...[fixture('filtered'), host.socket, '--userns', USERNS, '--all-sysinfo', '--await-agent', '--', ...command],
]
/** A container that stays, and calls sysinfo(2) whenever it is asked. */
class Polled implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #lines: Interface
  #next: Promise<readonly unknown[]>

  /** @param before words of a shell, which becomes the container */
  constructor(before: string, bits: 32 | 64 = 64) {
    const command = container(program(bits), '--each-line')
    this.#child = spawn('sh', ['-c', `${before}; exec "$@"`, 'sh', ...command], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout! })
    this.#next = once(this.#lines, 'line')
  }

  /** The first one was made at the start. */
  async first(): Promise<Info> {
    const [line] = await this.#next
    return JSON.parse(line as string) as Info
  }

  async again(): Promise<Info> {
    this.#next = once(this.#lines, 'line')
    this.#child.stdin!.write('\n')
    return this.first()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const over = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    if (this.#child.exitCode === null) await over
  }
}

/** Longer than figures are kept. */
const stale = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150))

const noTime = existsSync('/proc/self/ns/time') ? undefined : 'there are no time namespaces'

describe.skipIf(noTime)(withReason('sysinfo(2) in a time namespace', noTime), () => {
  /** The uptime there, less that outside. */
  const shift = async (run: (script: string) => Promise<Done>, before: string, bits: 32 | 64): Promise<number> => {
    const { stdout, stderr } = await run(`sleep 0.1; ${program(bits)}; ${before} ${program(bits)}`)
    expect(stderr).toBe('')
    const [outside, inside] = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as Info).uptime!)
    return inside! - outside!
  }
  const native = (script: string): Promise<Done> => execute('sh', ['-c', script])
  const contained = (script: string): Promise<Done> => host.run(['--all-sysinfo'], ['sh', '-c', script])

  test.each([
    { what: 'ahead', before: 'unshare --time --boottime 864000 --fork', by: 864_000 },
    { what: 'behind', before: 'unshare --time --boottime -1 --fork', by: -1 },
    {
      what: 'within another',
      before: 'unshare --time --boottime 1000 --fork unshare --time --boottime 70 --fork',
      by: 70,
    },
    { what: 'of the monotonic clock only', before: 'unshare --time --monotonic 864000 --fork', by: 0 },
  ])('$what has its offset, as natively', async ({ before, by }) => {
    for (const bits of BITS)
      for (const run of [native, contained]) {
        const seen = await shift(run, before, bits)
        expect([by, by + 1]).toContain(seen)
      }
  })
})

describe.skipIf(noTime)(withReason('a caller of sysinfo(2) that joins a time namespace', noTime), () => {
  const script = `unshare --time --boottime 5000 --fork sleep 10 &
    until there=$(pgrep -P $! -x sleep); do sleep 0.1; done
    ${program(64)} --join /proc/$there/ns/time; kill $there`
  const seen = async (run: Promise<Done>): Promise<readonly number[]> => {
    const { stdout, stderr } = await run
    expect(stderr).toBe('')
    const [before, ...after] = stdout.trim().split('\n')
    const uptime = (line: string | undefined): number => (JSON.parse(line!) as Info).uptime!
    return after.map((line) => uptime(line) - uptime(before))
  }

  /** Without the seconds that a slow machine takes. */
  const roughly = (seconds: number | undefined): number => Math.floor(seconds! / 100) * 100

  test('has its offset a millisecond later, and until then that of either, as natively', async () => {
    const [native] = await seen(execute('sh', ['-c', script]))
    expect(roughly(native)).toBe(5000)
    const [atOnce, later] = await seen(host.run(['--all-sysinfo'], ['sh', '-c', script]))
    expect([0, 5000]).toContain(roughly(atOnce))
    expect(roughly(later)).toBe(5000)
  })
})

describe('sysinfo(2) without a memory limit', () => {
  test('has the memory of the machine, its own uptime and its own tasks', async () => {
    const done = await host.run(['--all-sysinfo'], ['sh', '-c', `sleep 1.2; ${program(64)}`])
    const info = JSON.parse(done.stdout) as Info
    const total = /^MemTotal: +(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))![1]
    expect(info).toMatchObject({ size: 112, intact: true, mem_unit: 1, totalram: 1024 * Number(total), totalhigh: 0 })
    expect(info.uptime).toBeGreaterThanOrEqual(2)
    expect(info.uptime).toBeLessThan(20)
    expect(info.freeram! + info.bufferram!).toBeLessThanOrEqual(info.totalram!)
  })

  test('is served, and recorded as done', async () => {
    const { result, records } = await host.call(['sysinfo'], ['--all-sysinfo'])
    expect(result).toBe('ok')
    // That of a call before may come late.
    expect(records.at(-1)).toMatchObject({ verdict: 'act', errno: 0, reason: 'done' })
  })

  test.each([
    { where: 'another thread', args: ['--thread'], options: [] },
    { where: 'a user without capabilities', args: [], options: ['--uid', '1000', '--gid', '1000'] },
    { where: 'a pid namespace', args: [], options: ['--pidns'] },
  ])('also from $where', async ({ args, options }) => {
    const done = await host.run(['--all-sysinfo', ...options], [program(64), ...args])
    expect(JSON.parse(done.stdout)).toMatchObject({ size: 112, intact: true, uptime: 1 })
  })

  test('also from a child user namespace', async () => {
    const done = await host.run(['--all-sysinfo'], [...'unshare --user --map-root-user'.split(' '), program(64)])
    expect(JSON.parse(done.stdout)).toMatchObject({ intact: true, uptime: 1 })
  })
})

describe('the uptime of sysinfo(2)', () => {
  test('is not led astray by the name of the init', async () => {
    const name = 'a) S 1 (b c'
    const done = await host.run(['--all-sysinfo', '--name', name], ['sh', '-c', `sleep 1.1; ${program(64)}`])
    expect(JSON.parse(done.stdout)).toMatchObject({ intact: true, uptime: 2 })
  })

  // The clock of the namespace must not be before the boot of the machine.
  const back = Math.trunc(-uptime() / 2)

  test.skipIf(noTime).each([86_400, back])(
    withReason('is the age in the time namespace of the init, and %d s off in one that is off by that', noTime),
    async (offset) => {
      const shifted = ['unshare', '--time', '--boottime', `${offset}`]
      const whole = await execute('unshare', [...shifted.slice(1), ...container(program(64))])
      // Before Linux 6.3 only a child is in the new namespace (kernel/time/namespace.c timens_on_fork()).
      const inner = await host.run(['--all-sysinfo'], [...shifted, '--fork', '--user', '--map-root-user', program(64)])
      expect(JSON.parse(whole.stdout)).toMatchObject({ intact: true, uptime: 1 })
      expect(JSON.parse(inner.stdout)).toMatchObject({ intact: true, uptime: Math.max(0, 1 + offset) })
    },
  )
})

describe('sysinfo(2) into memory that may not be written', () => {
  test.each([
    { at: 'null', errno: 'EFAULT' },
    { at: 'unmapped', errno: 'EFAULT' },
    { at: 'readonly', errno: 'EFAULT' },
    { at: 'cross', errno: 'EFAULT' },
    { at: 'kernel', errno: 'EFAULT' },
    { at: 'edge', errno: undefined },
  ])('$at: $errno, as the kernel', async ({ at, errno }) => {
    for (const bits of BITS) {
      const native = await host.run(['--no-filter'], [program(bits), '--at', at])
      const ours = await host.run(['--all-sysinfo'], [program(bits), '--at', at])
      const [said, expected] = [ours, native].map(({ stdout }) => JSON.parse(stdout) as Info)
      expect([said!.errno, said!.intact, expected!.errno]).toEqual([errno, true, errno])
    }
  })
})

const unified = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) => existsSync(`${path}/cgroup.procs`))

const noUnified = unified ? undefined : 'no cgroup v2 is mounted here'

describe.skipIf(noUnified)(withReason('sysinfo(2) in a cgroup of v2', noUnified), () => {
  test.each([
    { where: 'where it was handed over', group: '' },
    { where: 'above the one to which systemd moved itself', group: '/init.scope' },
  ])('counts the tasks of the group $where, and of those below', async ({ group }) => {
    using outer = new TaskGroup(`${unified}/intercede-test-${process.pid}`, ['/init.scope', '/below'])
    const { path } = outer
    await using polled = new Polled(`echo $$ >${path}${group}/cgroup.procs`)
    // The fixture that waits, and the program.
    expect(await polled.first()).toMatchObject({ procs: 2 })
    const more = spawn('sh', ['-c', `echo $$ >${path}/below/cgroup.procs && echo in && exec cat`])
    try {
      await once(more.stdout, 'data')
      await stale()
      expect(await polled.again()).toMatchObject({ procs: 3 })
      for (const pid of readFileSync(`${path}${group}/cgroup.procs`, 'utf8').split('\n').filter(Boolean))
        writeFileSync(`${path}/below/cgroup.procs`, pid)
      await stale()
      expect(await polled.again()).toMatchObject({ procs: 3 })
    } finally {
      more.stdin.end()
      await once(more, 'exit')
    }
  })
})

describe.skipIf(unlimitable())(withReason('sysinfo(2) within a memory limit', unlimitable()), () => {
  test.for([
    { bits: 64, depth: 1, what: 'in its own group' },
    { bits: 32, depth: 1, what: 'in its own group, for a 32-bit program' },
    { bits: 64, depth: 3, what: 'two levels above' },
  ] as const)('$what', async ({ bits, depth }, { skip }) => {
    if (bits === 32 && no32) skip(no32)
    using group = new MemoryGroup(LIMIT, depth)
    await using polled = new Polled(group.join, bits)
    const info = await polled.first()
    expect(info).toMatchObject({ size: bits === 64 ? 112 : 64, intact: true, mem_unit: 1, totalram: LIMIT, uptime: 1 })
    expect(info.freeram! + info.bufferram!).toBeLessThanOrEqual(LIMIT)
    expect(info.freeram!).toBeGreaterThan(LIMIT - 40 * MiB)
  })

  test('two containers that are polled in turn each have their own', async () => {
    using one = new MemoryGroup(LIMIT)
    using other = new MemoryGroup(77 * MiB)
    await using first = new Polled(one.join)
    await using second = new Polled(other.join)
    const polled = [first, second]
    const start = performance.now()
    for (let round = 0; round < 50; round++) {
      const infos = await Promise.all(polled.map((each) => (round === 0 ? each.first() : each.again())))
      expect(infos.map(({ totalram }) => totalram)).toEqual([LIMIT, 77 * MiB])
    }
    // 50 rounds are many within 100 ms only if they are quick.
    expect((performance.now() - start) / 50).toBeLessThan(50 * SLOWNESS)
  })

  test('a new limit holds after a moment', async () => {
    using outer = new MemoryGroup(LIMIT)
    await using polled = new Polled(outer.join)
    expect(await polled.first()).toMatchObject({ totalram: LIMIT })
    outer.limit(60 * MiB)
    await stale()
    expect(await polled.again()).toMatchObject({ totalram: 60 * MiB })
  })

  test('page cache counts as free', async () => {
    using group = new MemoryGroup(LIMIT)
    const file = `/var/tmp/intercede-test-${process.pid}`
    try {
      writeFileSync(file, Buffer.alloc(100 * MiB, 1), { flush: true })
      await dropCache(file)
      await using polled = new Polled(`${group.join}; cat ${file} >/dev/null`)
      const full = await polled.first()
      expect(full.freeram! + full.bufferram!).toBeLessThanOrEqual(LIMIT)
      expect(group.pageCache).toBeGreaterThan(90 * MiB)
      await dropCache(file)
      await stale()
      const empty = await polled.again()
      expect(group.pageCache).toBeLessThan(10 * MiB)
      expect(Math.abs(empty.freeram! - full.freeram!)).toBeLessThan(10 * MiB)
    } finally {
      rmSync(file, { force: true })
    }
  })
})

/** Makes the kernel forget the pages of a file that was written back. */
async function dropCache(file: string): Promise<void> {
  const script = `import os,sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nos.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)`
  const { status, stderr } = await execute('python3', ['-c', script, file])
  if (status !== 0) throw new Error(`Cannot drop the cache: ${stderr}`)
}
