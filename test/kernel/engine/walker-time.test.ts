import { spawn } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { fixture, missing } from '../../support/fixtures.ts'
import { BASE, Host, USERNS } from '../../support/host.ts'
import { walkersOf } from '../../support/hostile.ts'
import { Images, nodeFor } from '../../support/images.ts'
import { PatchedBuild } from '../../support/patched-build.ts'
import { withReason } from '../../support/skipped.ts'

const CHARGES = 'charge(at, spent, ms = now()) {'
/** Where a user can write, which the home of root is not. */
const CHARGED = join(tmpdir(), `intercede-charged-${process.pid}`)
const WRITES = `process.getBuiltinModule('fs').appendFileSync(${JSON.stringify(CHARGED)}, spent + ' ');`
const CALLS = 20
/** A walk through procfs may take a thousand. */
const PAIRS = 450

/** Milliseconds that processors have worked for the main thread of a process. */
const timeOf = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6

const chargedIn = (path: string): number =>
  readFileSync(path, 'latin1')
    .split(' ')
    .reduce((sum, spent) => sum + Number(spent), 0)

/** Makes a directory beyond which only a walker gets, and one in it. */
function closedIn(directory: string): string {
  const closed = join(directory, 'closed')
  for (const path of [closed, join(closed, 'in')]) {
    mkdirSync(path)
    chownSync(path, BASE + 1, BASE + 1)
    chmodSync(path, 0o700)
  }
  return closed
}

test.skipIf(missing('gcc'))(
  withReason('a container is charged with what its walker works, found or not', missing('gcc')),
  async () => {
    const build = new PatchedBuild('engine/thread/fair-share.js', CHARGES, CHARGES + WRITES)
    writeFileSync(CHARGED, '')
    // The thread is the caller while it is told.
    chmodSync(CHARGED, 0o666)
    const host = await Host.start(undefined, {}, build.url)
    const engine = host.enginePid
    try {
      const closed = closedIn(host.directory)
      // It takes all that follows apart.
      const path = `${closed}/../../../proc/self/root${closed}/${'in/../'.repeat(PAIRS)}`
      const call = (name: string): string => `${fixture('caller')} mknod ${path}${name} 020666 1 3`
      const loop = 'while read -r line; do eval "$line"; done'
      const container = ['--userns', USERNS, '--pidns', '--await-agent', '--', 'unshare', '--mount', 'sh', '-c', loop]
      const child = spawn(fixture('filtered'), [host.socket, ...container], { stdio: ['pipe', 'pipe', 'inherit'] })
      const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
      const does = async (line: string): Promise<string> => {
        child.stdin!.write(`${line}\n`)
        return String((await lines.next()).value)
      }
      try {
        expect(await does(`mount -t proc none /proc; ${call('first')}`)).toBe('{"ok":true}')
        const [walker] = walkersOf(engine) as [number]
        const before = [timeOf(walker), chargedIn(CHARGED)] as const
        for (let at = 0; at < CALLS; at++) {
          const found = at % 2 === 0
          expect(await does(call(found ? `n${at}` : 'none/n'))).toBe(found ? '{"ok":true}' : '{"errno":"ENOENT"}')
        }
        const [worked, paid] = [timeOf(walker) - before[0], chargedIn(CHARGED) - before[1]]
        expect(worked).toBeGreaterThan(CALLS)
        expect(paid).toBeGreaterThan(0.8 * worked)
      } finally {
        child.stdin!.end()
      }
    } finally {
      host.close()
      rmSync(CHARGED)
      await build.remove(engine)
    }
  },
)

/** More than a walker may sleep. */
const SLOW_MS = 4000
const REQUIRES = 'requireBuild(process.argv[2]);'

test.skipIf(missing('gcc'))(
  withReason('a walker gets the time that it needs on a slow machine, as long as it works', missing('gcc')),
  async () => {
    const works = `for (const end = Date.now() + ${SLOW_MS}; Date.now() < end; );`
    const build = new PatchedBuild('walker/main.js', REQUIRES, `${works} ${REQUIRES}`)
    const host = await Host.start(undefined, {}, build.url)
    const engine = host.enginePid
    try {
      const closed = closedIn(host.directory)
      const start = performance.now()
      expect((await host.call(['mknod', join(closed, 'in/null'), '020666', '1', '3'], ['--pidns'])).result).toBe('ok')
      expect(performance.now() - start).toBeGreaterThan(SLOW_MS)
    } finally {
      host.close()
      await build.remove(engine)
    }
  },
)

const SERVES = 'let answer = { errno: 0 }'
const cannotMount = missing('gcc', 'losetup', 'mkfs.ext4')
test.skipIf(cannotMount)(
  withReason(
    'a container that mounts in a loop on a slow machine waits between its mounts, and each is done',
    cannotMount,
  ),
  async () => {
    const works = `for (const end = Date.now() + ${SLOW_MS / 2}; Date.now() < end; );`
    const build = new PatchedBuild('mounter/main.js', SERVES, `${works} ${SERVES}`)
    using images = new Images()
    const mount = { allowed: new Set(['ext4']), fuse: new Map(), shift: true, nodev: true }
    const host = await Host.start({ mount }, {}, build.url)
    const engine = host.enginePid
    try {
      const device = nodeFor(images.attach(images.make('ext4')), host.directory, BASE)
      const once = `LIBMOUNT_FORCE_MOUNT2=always mount -t ext4 ${device} /mnt && umount /mnt`
      const done = await host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', `${once} && ${once} && echo twice`])
      expect(done).toMatchObject({ stdout: 'twice\n', stderr: '' })
    } finally {
      host.close()
      await build.remove(engine)
    }
  },
)
