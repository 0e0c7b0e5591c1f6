import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { BPF, BPF_F_ALLOW_MULTI } from '../../../src/abi/bpf.ts'
import {
  attr,
  Caller,
  DENY,
  DIRECTORY,
  describing,
  Group,
  idOf,
  loading,
  probe,
  withoutCgroups,
} from '../../support/bpf-world.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { BASE, devicePrograms, Host, mknodPolicy, USERNS, until } from '../../support/host.ts'
import { Images } from '../../support/images.ts'
import { endEngine, mounters, socketsOf } from '../../support/mounters.ts'
import { PatchedBuild } from '../../support/patched-build.ts'
import { withReason } from '../../support/skipped.ts'
import { stateOf } from '../../support/stat.ts'

const policy = {
  ...mknodPolicy,
  bpf: devicePrograms,
  mount: { allowed: new Set(['ext4']), fuse: new Map(), shift: false, nodev: true },
} as const

let host: Host
beforeAll(async () => {
  host = await Host.start(policy)
})
afterAll(() => host.close())

const cannotMount = missing('gcc', 'losetup', 'mkfs.ext4')

describe.skipIf(cannotMount)(withReason('a mount by several calls', cannotMount), () => {
  const NAMES = 'fsopen source ro create create-again fsmount fsmount-again mount_setattr move_mount look umount'.split(
    ' ',
  )
  let images: Images
  let device: string
  const steps: Steps[] = []

  beforeAll(() => {
    images = new Images()
    const loop = images.device('ext4')
    device = join(host.directory, 'device')
    execFileSync('mknod', ['-m', '600', device, 'b', '7', loop.replace(/\D/g, '')])
    chownSync(device, BASE, BASE)
  })
  afterEach(async () => {
    for (const each of steps.splice(0)) await each.kill()
  })
  afterAll(() => images[Symbol.dispose]())

  /** The fixture `mount-steps` in a container. */
  class Steps {
    readonly #child: ChildProcess
    #said = ''

    constructor(options: readonly string[] = [], within: readonly string[] = [], { socket } = host) {
      const filtered = [socket, '--userns', USERNS, '--await-agent', '--mounts', ...options]
      const container = [...filtered, '--', 'unshare', '--mount', ...within]
      const command = [fixture('mount-steps'), 'ext4', device, '/mnt']
      this.#child = spawn(fixture('filtered'), [...container, ...command], { stdio: ['pipe', 'pipe', 'inherit'] })
      this.#child.stdout!.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
      steps.push(this)
    }

    async next(): Promise<void> {
      const lines = (): number => this.#said.split('\n').filter((line) => /: \w+$/.test(line)).length
      const before = lines()
      this.#child.stdin!.write('\n')
      await until('the call has returned', () => lines() > before && this.#said.endsWith('\n'))
    }

    close(): void {
      this.#child.stdin!.end()
    }

    async kill(): Promise<void> {
      this.#child.kill('SIGKILL')
      await until('it is gone', () => this.hasEnded)
    }

    async end(): Promise<string> {
      this.close()
      await until('it has ended', () => this.hasEnded)
      return this.#said
    }

    get hasEnded(): boolean {
      return this.#child.exitCode !== null || this.#child.signalCode !== null
    }
  }

  /** @param between called before each step with its number */
  async function mounted(between: (step: number) => Promise<void>): Promise<string> {
    const all = new Steps()
    for (const step of NAMES.keys()) {
      if (step > 0) await between(step)
      await all.next()
    }
    return all.end()
  }

  test('is not kept busy by a mounter that an engine has started and ended before', async () => {
    const expected = await mounted(async () => {})
    const unshares = 'enterOwnMounts(['
    const slowly = `try { process.getBuiltinModule('fs').rmdirSync(import.meta.dirname + '/slow'); await sleep(60000) } catch {}`
    const build = new PatchedBuild('mounter/main.js', unshares, `${slowly}\n${unshares}`)
    const ill = await Host.start(policy, {}, build.url)
    const slow = new URL('slow', build.url)
    const started: string[] = []
    try {
      const all = new Steps([], [], ill)
      for (const name of NAMES) {
        if (name !== 'move_mount') {
          await all.next()
          continue
        }
        const before = mounters(ill.enginePid)
        for (const mounter of before) process.kill(Number(mounter), 'SIGKILL')
        await until('it is gone', () => before.every((mounter) => stateOf(mounter) === ''))
        mkdirSync(slow)
        const moved = all.next()
        await until('the next mounter starts, slowly', () => !existsSync(slow))
        started.push(...mounters(ill.enginePid))
        await endEngine(ill)
        await moved
      }
      expect(await all.end()).toBe(expected)
    } finally {
      for (const mounter of started) process.kill(Number(mounter), 'SIGKILL')
      const engine = ill.maybeEnginePid
      ill.close()
      await build.remove(engine)
    }
  }, 60_000)

  test('is not kept busy by what an engine had in hand that ended once the mount was placed', async () => {
    const expected = await mounted(async () => {})
    const answers = 'return writeBack(effect, caller, verdict.why)'
    const ends = `if (verdict.act.verb === 'placeMount') process.kill(process.pid, 'SIGKILL')`
    const build = new PatchedBuild('engine/serve/server.js', answers, `${ends}\n${answers}`)
    const ill = await Host.start(policy, {}, build.url)
    ill.mayLoseEngine = true
    try {
      const all = new Steps([], [], ill)
      for (const name of NAMES) {
        if (name === 'move_mount') break
        await all.next()
      }
      // It unmounts as soon as the next engine has answered.
      await Promise.all([all.next(), all.next(), all.next()])
      expect(await all.end()).toBe(expected)
      await until('the next engine has started', () => ill.restarts === 1)
    } finally {
      const engine = ill.maybeEnginePid
      ill.close()
      await build.remove(engine)
    }
  }, 60_000)

  /** Mounts that stand nowhere, of which this process, the keeper, has a descriptor. */
  const trees = (): number =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === '/'
      } catch {
        return false
      }
    }).length

  const EXPECTED =
    /^fsopen: ok\nsource: ok\nro: ok\ncreate: ok\ncreate again: EBUSY\nfsmount: ok\nfsmount again: E\w+\nmount_setattr: ok\nmove_mount: ok\n[\w,]*nodev,noatime\nmounted: 1\nlook: ok\numount: ok\n$/

  test.each(NAMES.slice(1).map((name, index) => ({ name, at: index + 1 })))(
    'goes on with the next engine when one ends before $name',
    async ({ at }) => {
      const expected = await mounted(async () => {})
      expect(expected).toMatch(EXPECTED)
      expect(await mounted(async (step) => void (step === at && (await endEngine(host))))).toBe(expected)
    },
  )

  test('is let go by the next engine when its process does not go on with it, though nobody mounts any more', async () => {
    const left = new Steps(['--pidns'], ['sh', '-c', '"$@"; exec sleep 1000', 'sh'])
    for (const name of NAMES) {
      if (name === 'mount_setattr') break
      await left.next()
    }
    await endEngine(host)
    // The mount, a copy of it, and its root directory.
    expect(trees()).toBe(3)
    left.close()
    await until('all of it is let go', () => trees() === 0, 15)
    expect(left.hasEnded).toBe(false)
  }, 30_000)

  test('goes on when an engine ends before each of its calls, and leaves nothing', async () => {
    const expected = await mounted(async () => {})
    const [sockets, { keeperFds }] = [socketsOf(host.enginePid), host.footprint]
    expect(await mounted(() => endEngine(host))).toBe(expected)
    await until('the descriptors are gone', () => host.footprint.keeperFds <= keeperFds)
    expect(socketsOf(host.enginePid)).toBeLessThanOrEqual(sockets + 1)
  }, 60_000)
})

const cannotBpf = withoutCgroups() ?? missing('gcc')

test.skipIf(cannotBpf)(
  withReason(
    'a device program is loaded, attached, found by its number and detached, by one engine after the other',
    cannotBpf,
  ),
  async () => {
    const group = new Group()
    const inner = group.below('inner')
    const caller = Caller.contained(host, group.path)
    try {
      const { result: program } = await caller.bpf(BPF.PROG_LOAD, loading(DENY))
      await endEngine(host)
      const { buffers } = await caller.bpf(BPF.OBJ_GET_INFO_BY_FD, describing(Number(program)))
      const id = idOf(buffers[0]!)
      await endEngine(host)
      const fd = await caller.number(`open ${inner} ${DIRECTORY}`)
      const place = attr(20, { 0: fd, 4: Number(program), 8: 6, 12: BPF_F_ALLOW_MULTI })
      expect(await caller.bpf(BPF.PROG_ATTACH, place)).toMatchObject({ result: 0 })
      expect(await probe(inner, '/dev/null')).toBe('closed')
      await caller.ask(`close ${program}`)
      await endEngine(host)
      // Nothing stands for it any more, but the container has loaded it.
      const { result: found } = await caller.bpf(BPF.PROG_GET_FD_BY_ID, attr(12, { 0: id }))
      expect(found).toBeGreaterThan(0)
      await endEngine(host)
      const detaching = attr(20, { 0: fd, 4: Number(found), 8: 6 })
      expect(await caller.bpf(BPF.PROG_DETACH, detaching)).toMatchObject({ result: 0 })
      expect(await probe(inner, '/dev/null')).toBe('open')
    } finally {
      await caller.close()
      await group.remove()
    }
  },
  60_000,
)
