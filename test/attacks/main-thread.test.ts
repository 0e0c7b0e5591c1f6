// One thread of the engine starts helpers for all containers. One container, then five, let it work as much as they can, while
// the mounts of another container, each of which needs that thread, are timed.
import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Group, withoutCgroups } from '../support/bpf-world.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, Host, mknodPolicy, USERNS, until } from '../support/host.ts'
import { Hostile, withoutFuse } from '../support/hostile.ts'
import { sleep } from '../support/restart-world.ts'
import { withReason } from '../support/skipped.ts'

const why = withoutCgroups() ?? missing('gcc')
/** PATH_MAX lets a container name 1,990; a third of them shows the same sooner. */
const DEEPEST = 600
/** As many calls of a container are served at once. */
const CALLERS = 3
const MOUNTS = 120
/** Usually 1; a group of 600 levels that is frozen made it 1,000 and more, or ended the engine. */
const RATIO = 3
/** What other programs of this machine may add to most mounts, and to a few. */
const SLACK_MS = 10
const BUSY_MS = 500
/** How often the main thread looks for contexts that are over; and less than the keeper waits for an engine that hangs. */
const LOOKS_MS = 5000
const HANG_MS = 3000
const MKNOD = `${fixture('caller')} mknod`

/** One container of those that attack: what its processes run, in a group of its own. */
interface Attack {
  readonly is: string
  /** How deep its groups lie below its own. */
  readonly depth?: number
  /** What `depth` has: whether they are frozen once a call of each is served. */
  readonly freezes?: boolean
  /** Whether its processes run all the time: then all others get less of the processors, whatever they do. */
  readonly spins?: boolean
  /** @param groups of the container @param path for nodes */
  readonly run: (groups: readonly string[], path: string) => string
}

const inEach = (groups: readonly string[], command: (index: number) => string): string =>
  `${groups.map((group, index) => `sh -c 'echo 0 >${group}/cgroup.procs && exec ${command(index)}' &`).join('\n')}\nwait`
const loop = (more: string): string => `${fixture('mknod-loop')} --count 10000000 ${more}`

const ATTACKS: readonly Attack[] = [
  {
    is: 'asks for the device rules of groups 600 levels deep that are frozen',
    ...{ depth: DEEPEST, freezes: true },
    run: (groups, path) => inEach(groups, (index) => `${MKNOD} ${path}${index} 020666 1 3`),
  },
  {
    is: 'asks for the device rules of groups 600 levels deep all the time',
    ...{ depth: DEEPEST, spins: true },
    run: (groups, path) => inEach(groups, (index) => loop(`${path}${index}`)),
  },
  {
    is: 'asks for the device rules of frozen groups',
    ...{ depth: 20, freezes: true },
    run: (groups, path) => inEach(groups, (index) => `${MKNOD} ${path}${index} 020666 1 3`),
  },
  {
    is: 'asks for the device rules of one group after the other',
    ...{ depth: 1, spins: true },
    run: ([group = ''], path) =>
      `i=0; while :; do i=$((i+1)); mkdir ${group}/$i; (echo 0 >${group}/$i/cgroup.procs; exec ${MKNOD} ${path}$i 020666 1 3); done`,
  },
  { is: 'has more callers than are served at once', spins: true, run: (_, path) => loop(`--processes 8 ${path}`) },
  { is: 'mounts all the time', spins: true, run: () => loop('--processes 4 --call mount /mnt') },
]

interface Times {
  readonly median: number
  readonly p99: number
  readonly worst: number
}

describe.skipIf(why)(withReason('the mounts of another container, while one', why), { timeout: 120_000 }, () => {
  let host: Host
  let serial = 0
  const homes: { readonly group: Group; readonly top: string | undefined }[] = []
  const attackers: ChildProcess[] = []
  beforeAll(async () => {
    host = await Host.start({
      ...mknodPolicy,
      mount: { allowed: new Set(['tmpfs']), fuse: new Map(), shift: false, nodev: true },
    })
    await mounts()
  })
  afterEach(async () => {
    for (const { group, top } of homes) {
      if (top) writeFileSync(`${top}/cgroup.freeze`, '0')
      writeFileSync(`${group.path}/cgroup.kill`, '1')
    }
    await end()
    for (const { group } of homes.splice(0)) await group.remove()
  })
  afterAll(() => host?.close())

  const contained = ['--userns', USERNS, '--pidns', '--mounts', '--await-agent'] as const

  async function mounts(): Promise<Times> {
    const loop = [fixture('mknod-loop'), '--call', 'mount', '--count', `${MOUNTS}`, '/mnt']
    const { stdout, stderr } = await host.run(['--pidns', '--mounts', '--id', `other${serial++}`], loop)
    if (stdout === '') throw new Error(`The loop said nothing: ${stderr}`)
    const said = JSON.parse(stdout) as Record<'medianNs' | 'p99Ns' | 'maxNs', number> & { readonly errors: object }
    expect(said.errors).toEqual({})
    return { median: said.medianNs / 1e6, p99: said.p99Ns / 1e6, worst: said.maxNs / 1e6 }
  }

  async function end(): Promise<void> {
    const running = attackers.splice(0).filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
    const ended = running.map((each) => new Promise((resolve) => each.once('exit', resolve)))
    for (const each of running) each.kill('SIGKILL')
    await Promise.all(ended)
  }

  function start(options: readonly string[], command: readonly string[]): void {
    const words = [host.socket, ...contained, ...options, '--', ...command]
    attackers.push(spawn(fixture('filtered'), words, { stdio: 'ignore' }))
  }

  /** Makes a group that belongs to a container, and some below it. */
  function place(depth: number, count: number): { readonly home: Group; readonly groups: readonly string[] } {
    const home = new Group().delegate()
    const path = home.path + '/a'.repeat(depth - 1)
    mkdirSync(path, { recursive: true })
    homes.push({ group: home, top: depth > 1 ? `${home.path}/a` : undefined })
    const groups = Array.from({ length: count }, (_, index) => `${path}/${index}`)
    for (const group of groups) {
      mkdirSync(group)
      for (const each of ['', '/cgroup.procs']) chownSync(group + each, BASE, BASE)
    }
    return { home, groups }
  }

  async function attack({ depth = 1, freezes, run }: Attack): Promise<void> {
    const number = serial++
    const { home, groups } = place(depth, CALLERS)
    const script = run(groups, join(host.directory, `n${number}-`))
    start(['--id', `hostile${number}`, '--cgroup', home.path], ['sh', '-c', script])
    await until('it attacks', () => readFileSync(`${home.path}/cgroup.procs`, 'latin1') !== '')
    if (!freezes) return
    await sleep(400)
    writeFileSync(`${home.path}/a/cgroup.freeze`, '1')
  }

  /** Processor time of the engine's main thread, in ticks of 10 ms. */
  const ticks = (): number => {
    const fields = readFileSync(`/proc/${host.enginePid}/task/${host.enginePid}/stat`, 'latin1')
      .split(') ')[1]!
      .split(' ')
    return Number(fields[11]) + Number(fields[12])
  }

  const shown = ({ median, p99, worst }: Times): string =>
    `median ${median.toFixed(1)}, p99 ${p99.toFixed(1)}, worst ${worst.toFixed(1)} ms`

  describe.each([1, 5])('(%i at once)', (count) => {
    test.each(ATTACKS.map((each) => [each.is, each] as const))('%s', async (_, how) => {
      const quiet = await mounts()
      const engine = host.enginePid
      for (let each = 0; each < count; each++) await attack(how)
      await sleep(1000)
      const [from, before] = [performance.now(), ticks()]
      const attacked = await mounts()
      const busy = (1000 * (ticks() - before)) / (performance.now() - from)
      console.log(`quiet ${shown(quiet)}; attacked ${shown(attacked)}; main thread ${busy.toFixed(0)} %`)
      expect(host.enginePid).toBe(engine)
      expect(busy).toBeLessThan(50)
      if (how.spins) return
      expect(attacked.median).toBeLessThan(RATIO * quiet.median + SLACK_MS)
      expect(attacked.p99).toBeLessThan(RATIO * quiet.p99 + BUSY_MS)
      expect(attacked.worst).toBeLessThan(RATIO * quiet.worst + BUSY_MS)
    })
  })

  // The kernel closes descriptors while it executes a program, and who asks for almost anything of the process waits.
  const noFuse = withoutFuse() ?? missing('perl')
  test.skipIf(noFuse)(
    withReason('executes a program, which hangs, with a context of its own', noFuse),
    { timeout: 30_000 },
    async () => {
      const engine = host.enginePid
      const hostile = new Hostile(host.directory)
      const FSOPEN = 430
      const script = `my $type = "tmpfs"; syscall(${FSOPEN}, $type, 0) >= 0 or die "fsopen: $!";
      open(my $file, "<", "${hostile.mount}/file") or die "open: $!"; kill "USR1", $ENV{FUSE_SERVER};
      $| = 1; print "started\n"; exec "sleep", "1000"`
      await hostile.start(host.socket, [], ['perl', '-e', script], ['--mounts'])
      try {
        await sleep(LOOKS_MS + 1000)
        const { worst } = await mounts()
        expect(worst).toBeLessThan(HANG_MS)
        expect(host.enginePid).toBe(engine)
      } finally {
        await hostile.end()
      }
    },
  )
})
