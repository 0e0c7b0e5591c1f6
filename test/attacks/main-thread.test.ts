// One thread of the engine works for all containers. Five containers let it work as much as they can, by each kind of its
// work (docs/internals/architecture.md), while another container is timed: its mounts, which need that thread, and its nodes. FUSE
// programs and LXC: fuse-programs.test.ts.
import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Group, withoutCgroups } from '../support/bpf-world.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, directory, Host, mknodPolicy, USERNS, until } from '../support/host.ts'
import { Hostile, withoutFuse } from '../support/hostile.ts'
import { sleep } from '../support/restart-world.ts'
import { withReason } from '../support/skipped.ts'

const why = withoutCgroups() ?? missing('gcc', 'perl')
/** PATH_MAX lets a container name 1,990; a third of them shows the same sooner. */
const DEEPEST = 600
const ATTACKERS = 5
/** As many calls of a container are served at once. */
const CALLERS = 3
const MOUNTS = 60
const NODES = 300
/** Usually 1; a group of 600 levels that is frozen made it 1,000 and more, or ended the engine. */
const RATIO = 3
/** What other programs of this machine may add to most mounts, and to a few. */
const SLACK_MS = 10
const BUSY_MS = 500
/** How often what is too slow is measured at most. */
const ATTEMPTS = 3
const KINDS = ['nodes', 'mounts'] as const
/**
 * How long the main thread waits at most before it looks for contexts that are over; and less than the keeper waits for an
 * engine that hangs.
 */
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

const [MKNODAT, MOUNT, UMOUNT2] = process.arch === 'arm64' ? [33, 40, 39] : [259, 165, 166]
const FSOPEN = 430
/** Processes that make calls in a loop, in a mount namespace of their own. They wait for each answer, and need no processor. */
function perl(path: string, processes: number, call: string, before = ''): string {
  const names = '($none, $mnt, $tmpfs, $ext4, $all) = ("none", "/mnt", "tmpfs", "ext4", "nr_inodes=0");'
  const source = `${names} ${before} for (1..${processes}) { next if fork; for ($i = 0;; $i++) { ${call} } } sleep 1 while 1`
  writeFileSync(`${path}pl`, source, { mode: 0o644 })
  return `exec unshare --mount perl ${path}pl`
}
const ON_TMPFS = `syscall(${MOUNT}, $none, $mnt, $tmpfs, 0, $all) == 0 or die $!; chdir $mnt;`
/** A directory whose path has 4,092 bytes. */
const LONG = `$name = "0" x 255; $long = $mnt; for (1..15) { mkdir($long .= "/$name") } mkdir($long .= "/" . "0" x 247); mkdir($at = "$mnt/at");`

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
  {
    is: 'mounts all the time',
    run: (_, path) => perl(path, 2, `syscall(${MOUNT}, $none, $mnt, $tmpfs, 0, 0); syscall(${UMOUNT2}, $mnt, 2)`),
  },
  {
    is: 'mounts what is no device and has a long path, all the time',
    run: (_, path) => perl(path, 2, `syscall(${MOUNT}, $long, $at, $ext4, 0, 0)`, `${ON_TMPFS} ${LONG}`),
  },
  {
    is: 'makes nodes in memory, all the time',
    run: (_, path) => perl(path, 2, `$n = "n" x 200 . $i . $$; syscall(${MKNODAT}, -100, $n, 020666, 0x103)`, ON_TMPFS),
  },
  {
    is: 'opens contexts and closes them, all the time',
    run: (_, path) =>
      perl(
        path,
        2,
        `push @c, syscall(${FSOPEN}, $ext4, 0); if (@c > 200) { POSIX::close($_) for @c; @c = () }`,
        'use POSIX ();',
      ),
  },
  {
    is: 'has its walker look up paths, all the time',
    spins: true,
    run: (_, path) => loop(`--processes 2 ${path}closed/n`),
  },
]

interface Times {
  readonly median: number
  readonly p99: number
  readonly worst: number
}

/** Says which times are longer than another container's attack may make them. */
function slower(what: string, attacked: Times, quiet: Times): readonly string[] {
  const slack = { median: SLACK_MS, p99: BUSY_MS, worst: BUSY_MS }
  return (['median', 'p99', 'worst'] as const).flatMap((name) => {
    const most = RATIO * quiet[name] + slack[name]
    return attacked[name] < most ? [] : [`${what}: ${name} ${attacked[name]} ms instead of ${most} at most`]
  })
}

describe.skipIf(why)(withReason('the calls of another container, while', why), { timeout: 120_000 }, () => {
  let host: Host
  let serial = 0
  const homes: { readonly group: Group; readonly top: string | undefined }[] = []
  const attackers: ChildProcess[] = []
  beforeAll(async () => {
    host = await Host.start({
      ...mknodPolicy,
      mount: { allowed: new Set(['ext4', 'tmpfs']), fuse: new Map(), shift: false, nodev: true },
    })
    await answers()
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

  /** In a new container, which must be served. */
  async function timed(...words: readonly string[]): Promise<Times> {
    const options = ['--pidns', '--mounts', '--id', `other${serial++}`]
    const { stdout, stderr } = await host.run(options, [fixture('mknod-loop'), ...words])
    if (stdout === '') throw new Error(`The loop said nothing: ${stderr}`)
    const said = JSON.parse(stdout) as Record<'medianNs' | 'p99Ns' | 'maxNs', number> & { readonly errors: object }
    expect(said.errors).toEqual({})
    return { median: said.medianNs / 1e6, p99: said.p99Ns / 1e6, worst: said.maxNs / 1e6 }
  }

  const answers = async (): Promise<{ readonly nodes: Times; readonly mounts: Times }> => ({
    nodes: await timed('--count', `${NODES}`, join(host.directory, 'node')),
    mounts: await timed('--call', 'mount', '--count', `${MOUNTS}`, '/mnt'),
  })

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
    const path = join(host.directory, `n${number}-`)
    directory(`${path}closed`, BASE + 1, 0o700)
    const script = run(groups, path)
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

  test.each(ATTACKS.map((each) => [each.is, each] as const))('each of five %s', async (_, how) => {
    const quiet = await answers()
    const engine = host.enginePid
    for (let each = 0; each < ATTACKERS; each++) await attack(how)
    // By then those that mount all the time have taken what they may take at once.
    await sleep(how.spins || how.freezes ? 1000 : 3000)
    const attempt = async (): Promise<readonly string[]> => {
      const [from, before] = [performance.now(), ticks()]
      const attacked = await answers()
      const busy = (1000 * (ticks() - before)) / (performance.now() - from)
      for (const what of KINDS)
        console.log(
          `${what}: quiet ${shown(quiet[what])}; attacked ${shown(attacked[what])}; main ${busy.toFixed(0)} %`,
        )
      expect(host.enginePid).toBe(engine)
      expect(busy).toBeLessThan(50)
      return how.spins ? [] : KINDS.flatMap((what) => slower(what, attacked[what], quiet[what]))
    }
    let found = await attempt()
    // What other programs do just then is over soon; what an attacker does goes on.
    for (let again = 1; again < ATTEMPTS && found.length > 0; again++) found = await attempt()
    expect(found).toEqual([])
    // A frozen one may have ended before.
    if (!how.freezes)
      expect(attackers.map(({ exitCode, signalCode }) => exitCode ?? signalCode)).toEqual(Array(ATTACKERS).fill(null))
  })

  // The kernel closes descriptors while it executes a program, and who asks for almost anything of the process waits.
  const noFuse = withoutFuse() ?? missing('perl')
  test.skipIf(noFuse)(
    withReason('one executes a program, which hangs, with a context of its own', noFuse),
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
        const { worst } = (await answers()).mounts
        expect(worst).toBeLessThan(HANG_MS)
        expect(host.enginePid).toBe(engine)
      } finally {
        await hostile.end()
      }
    },
  )
})
