import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MounterLost, type MounterRequest, requestMount } from '../../../src/caller/mounts/mounter-client.ts'
import { socketpair } from '../../../src/kernel/socket.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { BASE, Host, until } from '../../support/host.ts'
import { Images, nodeFor } from '../../support/images.ts'
import { endEngine, mounters, socketsOf } from '../../support/mounters.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'
import { stateOf } from '../../support/stat.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4') ?? (existsSync('/dev/fuse') ? undefined : 'no /dev/fuse')
const policy = { mount: { allowed: new Set(['ext4', 'xfs']), fuse: new Map(), shift: false, nodev: true } }

/** A loop device whose file lies on a FUSE file system that does not answer any more. */
class DeadDevice implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'intercede-dead-'))
  readonly #process: ChildProcess
  path = ''

  constructor() {
    const at = join(this.directory, 'fuse')
    mkdirSync(at)
    const script = `L=$(losetup --find --show ${at}/file) && kill -STOP $FUSE_SERVER && echo $L &&
      read -r _; kill -KILL $FUSE_SERVER; losetup --detach $L`
    const serve = [fixture('fuse-server'), '--pages', '1024', '/dev/fuse', at, '--', 'sh', '-c', script]
    this.#process = spawn('unshare', ['--mount', ...serve], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#process.stdout!.on('data', (chunk: Buffer) => {
      this.path += chunk.toString().trim()
    })
  }

  get ready(): boolean {
    return this.path !== ''
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#process.stdin!.end()
    await ended
    rmSync(this.directory, { recursive: true })
  }
}

let images: Images
let host: Host
let device: string

beforeAll(async () => {
  if (cannot) return
  images = new Images()
  host = await Host.start(policy, { limits: { callsPerContainer: 8 } })
  device = hostNode(images.device('ext4'))
})
afterAll(() => {
  host?.close()
  images?.[Symbol.dispose]()
})

/** A node that the root of the containers may open. */
const hostNode = (loop: string): string => nodeFor(loop, host.directory, BASE)

const contained = (script: string) => host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', script])

describe.skipIf(cannot)(withReason('a mount that hangs in the kernel', cannot), () => {
  test('takes a bounded number of mounters, and nobody else waits for it', async () => {
    const before = socketsOf(host.enginePid)
    const dead = new DeadDevice()
    try {
      await until('the device is there', () => dead.ready)
      const node = hostNode(dead.path)
      const hang = (at: string, type: string): string =>
        `LIBMOUNT_FORCE_MOUNT2=always timeout -s KILL 12 mount -t ${type} ${node} ${at}`
      const script = `mount -t tmpfs none /mnt && cd /mnt && mkdir 1 2 3 && (${hang('1', 'ext4')} & ${hang('2', 'xfs')} & sleep 1; ${hang('3', 'ext4')}; wait)`
      const hanging = contained(script)
      await until(
        'two mounters hang',
        () => mounters(host.enginePid).filter((pid) => stateOf(pid) === 'D').length === 2,
      )
      const start = performance.now()
      const other = await contained(`mount -t ext4 ${device} /mnt && cat /mnt/hello && umount /mnt`)
      expect(other).toMatchObject({ status: 0, stdout: 'hello\n', stderr: '' })
      expect(performance.now() - start).toBeLessThan(3000 * SLOWNESS)
      const { stderr } = await hanging
      expect(stderr).toMatch(/temporarily unavailable|Resource/i)
      const ends = (): string[] => {
        host.drain()
        return host.records.flatMap(({ reason }) => (reason === 'gone' || reason === 'mountsBusy' ? [reason] : []))
      }
      await until('all three calls are over', () => ends().length === 3)
      expect(ends().sort()).toEqual(['gone', 'gone', 'mountsBusy'])
      // Neither is done soon, so both are killed. The mounter of ext4 hung where we look at the image, and ends; the other
      // one hangs where the driver does.
      await until(
        'one mounter hangs',
        () => mounters(host.enginePid).filter((pid) => stateOf(pid) === 'D').length === 1,
        5,
      )
    } finally {
      await dead[Symbol.asyncDispose]()
    }
    // The kernel lets them go: all that is left are those that wait for the next mount, for ten seconds.
    await until('the mounters have ended', () => mounters(host.enginePid).length <= 1)
    await until('no descriptor is left', () => socketsOf(host.enginePid) === before + mounters(host.enginePid).length)
  })

  test('and is done soon after its caller was killed: its mounter serves the next mount', async () => {
    const dead = new DeadDevice()
    let mounter: string | undefined
    try {
      await until('the device is there', () => dead.ready)
      const node = hostNode(dead.path)
      host.drain()
      const { length } = host.records
      const hanging = contained(`LIBMOUNT_FORCE_MOUNT2=always timeout -s KILL 1 mount -t xfs ${node} /mnt`)
      await until('a mounter hangs', () => {
        mounter = mounters(host.enginePid).find((pid) => stateOf(pid) === 'D')
        return mounter !== undefined
      })
      await hanging
      await until('the call is over', () => {
        host.drain()
        return host.records.slice(length).some(({ reason }) => reason === 'gone')
      })
    } finally {
      await dead[Symbol.asyncDispose]()
    }
    await until('it hangs no more', () => stateOf(mounter!) !== 'D', 5)
    const mount = () => contained(`mount -t ext4 ${device} /mnt && cat /mnt/hello && umount /mnt`)
    // Two at a time, since another mounter may wait, too.
    for (const done of await Promise.all([mount(), mount()]))
      expect(done).toMatchObject({ status: 0, stdout: 'hello\n', stderr: '' })
    expect(mounters(host.enginePid)).toContain(mounter)
    // Nothing is left of what was made for nobody.
    expect(existsSync(`/proc/fs/ext4/${device.split('/').at(-1)}`)).toBe(false)
  })

  test('outlives the engine that it was asked by, and the next one mounts for others', async () => {
    const dead = new DeadDevice()
    let hung: string[] = []
    try {
      await until('the device is there', () => dead.ready)
      const node = hostNode(dead.path)
      const hanging = contained(`LIBMOUNT_FORCE_MOUNT2=always timeout -s KILL 8 mount -t xfs ${node} /mnt`)
      const inKernel = (engine: number): string[] => mounters(engine).filter((pid) => stateOf(pid) === 'D')
      await until('a mounter hangs', () => inKernel(host.enginePid).length === 1)
      hung = mounters(host.enginePid)
      await endEngine(host)
      const other = await contained(`mount -t ext4 ${device} /mnt && cat /mnt/hello && umount /mnt`)
      expect(other).toMatchObject({ status: 0, stdout: 'hello\n', stderr: '' })
      await hanging
    } finally {
      await dead[Symbol.asyncDispose]()
    }
    await until('what hung has ended', () => hung.every((pid) => !existsSync(`/proc/${pid}`)), 30)
    await until('and all but one of the next engine', () => mounters(host.enginePid).length <= 1)
  }, 60_000)
})

describe('askMounter()', () => {
  const attach = { do: 'attach', isNew: true } as const

  test('gives up when there is no answer', () => {
    const [mine, theirs] = socketpair()
    using ours = mine
    using _theirs = theirs
    expect(() => requestMount(ours, attach, [], { waits: () => true, patience: 300 })).toThrow('no answer')
  })

  test('gives up when the caller is gone', () => {
    const [mine, theirs] = socketpair()
    using ours = mine
    using _theirs = theirs
    const gone = { message: 'the caller is gone' }
    const asks = (request: MounterRequest) => () => requestMount(ours, request, [], { waits: () => false })
    expect(asks(attach)).toThrow(expect.objectContaining({ ...gone, state: 'lost' }))
    // What only makes something for the answer may be finished.
    expect(asks({ do: 'renew', attributes: '0' })).toThrow(expect.objectContaining({ ...gone, state: 'working' }))
  })

  test('sees that the mounter has ended', () => {
    const [mine, theirs] = socketpair()
    using ours = mine
    theirs[Symbol.dispose]()
    expect(() => requestMount(ours, attach, [], { waits: () => true })).toThrow(MounterLost)
  })
})
