// A container that mounts or makes nodes all the time keeps a process of ours alive, whose mount namespace is a copy of the
// host's: the disk that an administrator unmounts meanwhile stays in use (fs/namespace.c copy_mnt_ns(), fs/super.c
// deactivate_super()).
import { spawn } from 'node:child_process'
import { chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLI, Daemon } from '../support/daemon.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, execute, USERNS, until } from '../support/host.ts'
import { walkersOf } from '../support/hostile.ts'
import { Images, must } from '../support/images.ts'
import { mounters } from '../support/mounters.ts'
import { withReason } from '../support/skipped.ts'
import { HostMounts, isBusy, type Propagation } from './host-mounts.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4')
const KEYS = ['mknod: true', 'mount: true', 'mount.allowed: ext4'].map((key) => `security.syscalls.intercept.${key}`)
const CONFIG = `default: { ${KEYS.join(', ')} }`
const PROPAGATIONS: readonly Propagation[] = ['private', 'shared']
/** A mounter without work lives for ten seconds. */
const SOON = 3
/** The first id of containers of `run`. */
const RUN_BASE = 2_000_000_000

let images: Images
let mounted: string
let disk: string
let scratch: string

beforeAll(() => {
  if (cannot) return
  images = new Images()
  mounted = images.device('ext4')
  disk = images.device('ext4')
  scratch = mkdtempSync(join(tmpdir(), 'intercede-pinned-'))
})
afterAll(() => {
  images?.[Symbol.dispose]()
  if (scratch) rmSync(scratch, { recursive: true })
})

async function mustComeFree(host: HostMounts): Promise<void> {
  expect(isBusy(disk)).toBe(true)
  expect(await host.run('umount', [host.disk])).toMatchObject({ status: 0, stderr: '' })
  await until('the disk is free', () => !isBusy(disk), SOON)
}

interface Started {
  /** Before it waits. */
  readonly said: string
  /** @returns all that was said */
  readonly end: () => Promise<string>
}

/** Starts something that says "done" and then waits. */
async function started(program: string, args: readonly string[]): Promise<Started> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => child.once('close', resolve))
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  const end = async (): Promise<string> => {
    child.stdin.end()
    await ended
    return said
  }
  try {
    await until('it is done', () => said.endsWith('done\n') || child.exitCode !== null)
    return { said, end }
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  }
}

const AND_WAIT = 'echo done; read -r _'

describe.skipIf(cannot).each(PROPAGATIONS)(
  withReason('where mounts are %s a disk comes free when it is unmounted', cannot),
  (kind) => {
    /** @param script what a container of a daemon does, in the directory of that, before it waits */
    async function whileContained(
      options: readonly string[],
      script: string,
      check: (engine: number, said: string) => Promise<void>,
    ): Promise<void> {
      await using host = await HostMounts.open(kind, scratch, disk)
      const before = host.table
      const daemon = await Daemon.start(CONFIG, undefined, host.within)
      try {
        prepare(daemon.directory)
        const container = ['--userns', USERNS, '--await-agent', ...options, '--', 'sh', '-c', `${script}; ${AND_WAIT}`]
        const [first = '', ...rest] = [
          ...host.within,
          'env',
          '-C',
          daemon.directory,
          fixture('filtered'),
          daemon.socket,
          ...container,
        ]
        const { said, end } = await started(first, rest)
        try {
          await check(daemon.engine, said)
          await mustComeFree(host)
          await check(daemon.engine, said)
        } finally {
          await end()
        }
      } finally {
        await daemon.close()
      }
      expect(host.table).toEqual(before)
    }

    test('while a mounter waits for the next mount', async () => {
      const mount = 'unshare --mount sh -c "mount -t ext4 node /mnt && cat /mnt/hello && umount /mnt"'
      let mounter: readonly string[] = []
      await whileContained(['--mounts'], mount, async (engine, said) => {
        expect(said).toBe('hello\ndone\n')
        // On a busy machine another one may have been started; of these, one or both wait.
        const alive = mounters(engine)
        const [before = alive[0]] = mounter
        expect(alive).toContain(before)
        mounter = [before!]
      })
    })

    test('while a walker waits for the next path', async () => {
      await whileContained(
        ['--pidns'],
        'mknod theirs/deep/null c 1 3 && stat -c %F theirs/deep/null',
        async (engine, said) => {
          expect(said).toBe('character special file\ndone\n')
          expect(walkersOf(engine)).toHaveLength(1)
        },
      )
    })

    test
      .skipIf(missing('crun', 'busybox'))
      .each([{ what: 'a root of its own', options: (root: string) => ['--rootfs', root] }])(
      withReason('while a container of `run` has $what', missing('crun', 'busybox')),
      async ({ options }) => {
        await using host = await HostMounts.open(kind, scratch, disk)
        const before = host.table
        const root = join(scratch, `root-${kind}`)
        mkdirSync(join(root, 'bin'), { recursive: true })
        copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'))
        await execute('chown', ['-R', `${RUN_BASE}:${RUN_BASE}`, root])
        const command = [process.execPath, CLI, 'run', ...options(root), '--', '/bin/busybox', 'sh', '-c', AND_WAIT]
        const [first = '', ...rest] = [...host.within, ...command]
        const { said, end } = await started(first, rest)
        try {
          expect(said).toBe('done\n')
          await mustComeFree(host)
        } finally {
          await end()
        }
        expect(host.table).toEqual(before)
      },
    )
  },
)

// The price of slaves: what the host mounts later comes to them, and a runtime may make the container's mounts slaves of those.
describe.skipIf(cannot).each(['crun', 'runc'])(
  withReason('what the host mounts later in a directory that %s shows', cannot),
  (runtime) => {
    test.skipIf(missing(runtime))(withReason('is not for the container', missing(runtime)), async () => {
      await using host = await HostMounts.open('shared', scratch, disk)
      const later = join(scratch, 'shown', 'later')
      mkdirSync(later, { recursive: true })
      const shown = ['--bind', `${join(scratch, 'shown')}:/shown`]
      const command = [
        CLI,
        'run',
        '--runtime',
        runtime,
        ...shown,
        '--',
        'sh',
        '-c',
        `${AND_WAIT}; ls /shown/later; echo end`,
      ]
      const [first = '', ...rest] = [...host.within, process.execPath, ...command]
      const { end } = await started(first, rest)
      expect(await host.run('mount', [mounted, later])).toMatchObject({ status: 0, stderr: '' })
      expect(await end()).toBe('done\nend\n')
    })
  },
)

/** What the container uses: a node of a disk, and a directory that only a capability over files opens. */
function prepare(directory: string): void {
  const node = join(directory, 'node')
  must('mknod', ['-m', '600', node, 'b', '7', mounted.replace(/\D/g, '')])
  chownSync(node, BASE, BASE)
  for (const [index, path] of ['theirs', 'theirs/deep'].entries()) {
    const closed = join(directory, path)
    mkdirSync(closed, { mode: 0o700 })
    chownSync(closed, BASE + 1000 + index, BASE + 1000)
  }
}
