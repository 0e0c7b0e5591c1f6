// Many starts leave nothing behind: INTERCEDE_RUNS says how many, two at a time.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { execute, until } from '../../support/host.ts'
import { INTERCEDE, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const RUNS = Number(process.env.INTERCEDE_RUNS ?? 20)
const AT_ONCE = 2
const OURS = dirname(dirname(INTERCEDE))
/** For temporary files, for which /tmp is no place to look: others use it meanwhile. */
const folder = mkdtempSync('/var/tmp/intercede-test-')
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const PLACES = ['/run', '/run/intercede', '/run/intercede/run', '/dev/shm', '/var/lib/intercede', folder]

const entries = (path: string): readonly string[] =>
  existsSync(path) ? readdirSync(path).map((name) => `${path}/${name}`) : []

const text = (path: string): string => {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** Processes of this build, but for those that have ended. */
const processes = (): readonly string[] =>
  readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && text(`/proc/${pid}/cmdline`).includes(`${OURS}/dist/`))

const mounts = (): readonly string[] =>
  text('/proc/self/mountinfo')
    .split('\n')
    .map((line) => line.split(' ').slice(2, 5).join(' '))

/** Control groups of runs that are over. */
const cgroups = (): readonly string[] =>
  ['/sys/fs/cgroup', '/sys/fs/cgroup/unified', '/sys/fs/cgroup/memory']
    .flatMap((root) => entries(`${root}/intercede`))
    .filter((path) => !existsSync(`/proc/${/(\d+)-\d+$/.exec(path)?.[1]}`))

const all = (): Record<string, readonly string[]> => ({
  places: PLACES.flatMap(entries),
  processes: processes(),
  mounts: mounts(),
  cgroups: cgroups(),
  descriptors: readdirSync('/proc/self/fd'),
})

async function start(): Promise<void> {
  const child = spawn(process.execPath, [INTERCEDE, 'run', '-c', 'mknod', '--', 'true'], {
    stdio: 'ignore',
    env: { ...process.env, TMPDIR: folder },
  })
  expect(await once(child, 'exit')).toEqual([0, null])
}

async function starts(count: number): Promise<void> {
  for (let at = 0; at < count; at++) await start()
}

/** What is there now and was not there before. */
function more(before: Record<string, readonly string[]>): Record<string, readonly string[]> {
  const now = Object.entries(all()).map(([kind, names]) => [
    kind,
    names.filter((name) => !before[kind]!.includes(name)),
  ])
  return Object.fromEntries(now.filter(([, names]) => names!.length > 0))
}

const why = unable()
test.skipIf(why)(withReason(`${RUNS} runs leave nothing behind`, why), { timeout: 60_000 + RUNS * 2000 }, async () => {
  // The first makes directories that stay, empty.
  await start()
  const before = all()
  const began = performance.now()
  await Promise.all(Array.from({ length: AT_ONCE }, () => starts(RUNS / AT_ONCE)))
  console.log(`${RUNS} runs in ${((performance.now() - began) / 1000).toFixed(0)} s`)
  await until('all has gone', () => Object.keys(more(before)).length === 0, 30).catch(() => {})
  expect(more(before)).toEqual({})
})

/** In a cgroup namespace of their own, since there may be runs of others on this machine. */
const APART = `mount -t cgroup2 none /sys/fs/cgroup && mkdir /sys/fs/cgroup/$1 && echo $$ >/sys/fs/cgroup/$1/cgroup.procs
exec unshare --mount --cgroup bash -c "$2"`
const TWO = `mount -t cgroup2 none /sys/fs/cgroup && cd '${folder}' && mkfifo word out
run() { '${process.execPath}' '${INTERCEDE}' run --no-init -- sh -c "$1"; }
apart() { unshare --pid --fork --mount-proc bash -c "$(declare -f run); run '$1'"; }
FIRST 'echo one; read word; echo $word' <word >out & first=$!
exec 3>word 4<out
read -u 4 line
OTHER 'echo two' </dev/fd/3
echo "$line three" >&3
wait $first; echo "$? $(cat <&4)"
rm word out`

test.skipIf(why).each([
  ['run', 'apart'],
  ['apart', 'run'],
  ['apart', 'apart'],
])(
  withReason('a run (%s) outlives one of another pid namespace (%s), which cannot see it', why),
  { timeout: 60_000 },
  async (...ways) => {
    const script = TWO.replace('FIRST', ways[0]).replace('OTHER', ways[1])
    const name = `intercede-test-${process.pid}`
    const { stdout, stderr } = await execute('unshare', ['--mount', 'bash', '-c', APART, 'bash', name, script])
    const remove = `mount -t cgroup2 none /sys/fs/cgroup; rmdir /sys/fs/cgroup/${name}`
    await execute('unshare', ['--mount', 'sh', '-c', remove])
    expect({ stdout, stderr }).toEqual({ stdout: 'two\n0 one three\n', stderr: '' })
  },
)
