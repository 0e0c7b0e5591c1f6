// A container that has its mounters end, by a path that is too long for them or by its control group, pays for it alone.
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Group, withoutCgroups } from '../support/bpf-world.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { Host } from '../support/host.ts'
import { mounters } from '../support/mounters.ts'
import { withReason } from '../support/skipped.ts'
import { statFields } from '../support/stat.ts'

const cannot = missing('gcc')
const ATTACKERS = 3

let host: Host
beforeAll(async () => {
  if (cannot) return
  host = await Host.start({
    mount: { allowed: new Set(['ext4', 'tmpfs']), fuse: new Map(), shift: false, nodev: true },
  })
})
afterAll(() => host?.close())

const contained = (script: string, options: readonly string[] = []) =>
  host.run(['--mounts', '--pidns', ...options], ['unshare', '--mount', 'bash', '--norc', '-c', script])

const CALL = fixture('call-steps')
/** A directory whose path has as many bytes as a path may have, but for three. */
const LONG = `mount -t tmpfs none /mnt; long=/mnt; name=$(printf %0255d 0); for i in $(seq 15); do long=$long/$name; done
long=$long/\${name:0:247}; mkdir -p $long`

/** How long mounts of another container take, in milliseconds. */
async function victim(): Promise<readonly number[]> {
  const { stdout } = await contained(
    `for i in $(seq 60); do a=\${EPOCHREALTIME/./}; said=$(${CALL} mount s:none s:/mnt s:tmpfs 0 null)
       b=\${EPOCHREALTIME/./}; [ "$said" = ok ] && umount /mnt && echo $((b - a)); sleep 0.05; done`,
  )
  const times = stdout.trim().split('\n').map(Number)
  expect(times).toHaveLength(60)
  return times.map((time) => time / 1000).sort((a, b) => a - b)
}
const at = (times: readonly number[], part: number): number => times[Math.floor(part * (times.length - 1))]!
const seen = (times: readonly number[]): string =>
  [0.5, 0.9, 0.99, 1].map((part) => at(times, part).toFixed(0)).join(' ')

/** Counts the mounters that are started while `action` runs. */
async function started(action: () => Promise<void>): Promise<number> {
  const all = new Set(mounters(host.enginePid))
  const before = all.size
  const timer = setInterval(() => {
    for (const pid of mounters(host.enginePid)) all.add(pid)
  }, 50)
  await action().finally(() => clearInterval(timer))
  return all.size - before
}

describe.skipIf(cannot)(withReason('a source that is no device', cannot), { timeout: 120_000 }, () => {
  /** The kernel writes it with interrupts disabled: 4 KB take a serial console 20 ms, in which nobody else runs. */
  test('puts no text of the container into the log of the kernel', async () => {
    const name = `intercede-test-${process.pid}`
    const { stdout } = await contained(
      `mkdir -p /tmp/${name}; ${CALL} mount s:/tmp/${name} s:/mnt s:ext4 0 null , mount s:/tmp/${name}/no s:/mnt s:ext4 0 null; rmdir /tmp/${name}`,
    )
    expect(stdout).toBe('ENOTBLK, ENOENT\n')
    expect(execFileSync('dmesg', { encoding: 'latin1', maxBuffer: 2 ** 26 }).includes(name)).toBe(false)
  })

  test('ends no mounter: it is no block device, as the kernel says', async () => {
    let said: string | undefined
    const count = await started(async () => {
      const { stdout, stderr } = await contained(
        `${LONG}; for i in $(seq 20); do ${CALL} mount s:$long s:/mnt s:ext4 0 null; done`,
      )
      said = stdout + stderr
    })
    expect(said).toBe('ENOTBLK\n'.repeat(20))
    expect(count).toBeLessThanOrEqual(1)
  })
})

/** Odd sources, options and types, from none to more than the kernel takes. */
const SIZES = [0, 1, 254, 255, 256, 257, 4079, 4080, 4094, 4095, 4096, 4097]
const ARGUMENTS = [
  's:',
  'bad',
  'null',
  's:.',
  's:..',
  's:/',
  's:///',
  's:a/../../..',
  's:fifo',
  's:socket',
  's:link',
  's:loop',
  's:dir',
]
const SOURCES = [
  ...ARGUMENTS,
  ...[
    's:/proc/self/root',
    's:/proc/self/fd/0',
    's:/proc/1/ns/mnt',
    's:/dev/null',
    's:/sys',
    's:mtd0',
    's:host:/x',
    's:\\\\x80\\\\xff',
  ],
  ...SIZES.map((size) => `a:${size}`),
]

describe.skipIf(cannot)(withReason('odd arguments of a mount', cannot), { timeout: 120_000 }, () => {
  test('end no mounter', async () => {
    const quoted = SOURCES.map((source) => `"${source}"`).join(' ')
    const { stdout } = await contained(
      `mount -t tmpfs none /mnt && cd /mnt && mkfifo fifo && mkdir dir && ln -s nowhere link && ln -s loop loop && cp -a /dev/null null
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' 2>/dev/null
         for s in ${quoted}; do for o in null a:4095; do
           for t in ext4 tmpfs; do ${CALL} mount "$s" s:dir s:$t 0 $o , fsopen s:$t 0 , fsconfig =1 1 s:source "$s" 0 , fsconfig =1 6 null null 0 , fsmount =1 0 0
             umount dir 2>/dev/null; done; done; done`,
    )
    host.drain()
    expect(stdout.trim().split('\n').length).toBeGreaterThan(100)
    expect(host.records.filter(({ reason }) => reason === 'mounterEnded')).toEqual([])
  })
})

/** What the engine and the helpers that it has waited for have taken of processors, in milliseconds. */
const spent = (): number =>
  statFields(`/proc/${host.enginePid}/stat`)
    .slice(11, 15)
    .reduce((sum, ticks) => sum + 10 * Number(ticks), 0)

const ungrouped = cannot ?? withoutCgroups()
describe.skipIf(ungrouped)(
  withReason('three containers that kill their mounters', ungrouped),
  { timeout: 120_000 },
  () => {
    /** Mounts of another container while three mount all the time, and do `kill` meanwhile. */
    async function beside(kill: string) {
      const groups = Array.from({ length: ATTACKERS }, () => new Group().delegate())
      const stop = join(host.directory, 'stop')
      const attack = (group: string): string =>
        `mkdir ${group}/x; (while :; do (echo 0 >${group}/x/cgroup.procs; exec ${CALL} mount s:/dev s:/mnt s:ext4 0 null) &
       for i in 1 2 3 4 5 6; do sleep 0.01; echo ${kill} >${group}/x/cgroup.kill; done; wait $!; done) >/dev/null 2>&1 &
       for i in $(seq 400); do [ -e ${stop} ] && break; sleep 0.1; done; kill -KILL -1`
      let times: readonly number[] = []
      const before = spent()
      const count = await started(async () => {
        const attackers = groups.map(({ path }) => contained(attack(path), ['--cgroup', path]))
        await new Promise((resolve) => setTimeout(resolve, 1000))
        times = await victim()
        writeFileSync(stop, '')
        await Promise.all(attackers)
        rmSync(stop)
      })
      for (const group of groups) await group.remove()
      return { times, count, took: spent() - before }
    }

    test('wait for new ones themselves: others mount as beside containers that only mount', async () => {
      await contained('mount -t tmpfs none /mnt')
      const mounting = await beside('')
      const killing = await beside('1')
      console.log(
        `beside mounts ${seen(mounting.times)} ms, ${mounting.count} mounters, ${mounting.took} ms;`,
        `beside kills ${seen(killing.times)}, ${killing.count} mounters, ${killing.took} ms`,
      )
      // One at once and one each five seconds for each; unpaced it was 57, each 200 ms of a processor.
      expect(killing.count).toBeLessThan(ATTACKERS * 8)
      expect(at(killing.times, 0.5)).toBeLessThan(2 * at(mounting.times, 0.5))
    })
  },
)
