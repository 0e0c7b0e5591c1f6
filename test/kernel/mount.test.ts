import { execFileSync } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../fixtures.ts'
import { Images } from '../images.ts'
import { BASE, type Done, execute, Host } from './host.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4', 'python3')
const policy = (nodev: boolean) => ({
  mount: { allowed: new Set(['ext4', 'xfs', 'hugetlbfs']), fuse: new Map(), shift: false, nodev },
})

let images: Images
let image: string
let device: string
let host: Host

beforeAll(async () => {
  if (cannot) return
  images = new Images()
  image = images.make('ext4')
  const loop = images.attach(image)
  host = await Host.start(policy(true))
  device = nodeFor(loop)
})
afterAll(() => {
  host?.close()
  images?.[Symbol.dispose]()
})

/** A node of a device of the host that belongs to the root of the containers. */
function nodeFor(loop: string): string {
  const path = join(host.directory, loop.slice('/dev/'.length))
  execFileSync('mknod', ['-m', '600', path, 'b', '7', loop.replace(/\D/g, '')])
  chownSync(path, BASE, BASE)
  return path
}

/** In a container with a mount namespace of its own, in a directory of its own. */
const contained = (script: string, on = host, options: readonly string[] = []): Promise<Done> =>
  on.run(
    ['--mounts', ...options],
    ['unshare', '--mount', 'sh', '-c', `mount -t tmpfs none /mnt && cd /mnt && mkdir m && ${script}`],
  )

describe.skipIf(cannot)('devices in a mount', () => {
  /** NAME change=ERRNO open=ERRNO by name. */
  async function tricks(on: Host): Promise<Record<string, { change: string; open: string }>> {
    const { stdout, stderr } = await contained(`${fixture('mount-tricks')} ${device} ext4 /mnt`, on)
    expect(stderr).toBe('')
    const lines = [...stdout.matchAll(/^(\S+) change=(\w+) open=(\w+)$/gm)]
    return Object.fromEntries(lines.map(([, name, change, open]) => [name, { change, open }]))
  }
  const WAYS = ['nothing', 'remount', 'setattr', 'clone', 'bind', 'rbind', 'move', 'again', 'again-setattr', 'unplaced']

  test('cannot be opened, whatever is tried', async () => {
    const seen = await tricks(host)
    for (const way of [...WAYS, 'userns', 'overlay', 'unplaced-setattr', 'reconfigure']) {
      expect(seen[way], way).toMatchObject({ open: 'EACCES' })
    }
    for (const way of ['remount', 'setattr', 'clone', 'bind', 'rbind', 'move', 'userns', 'unplaced-setattr']) {
      expect(seen[way], way).toMatchObject({ change: 'EPERM' })
    }
    expect(seen.source).toEqual({ change: 'EACCES', open: 'EACCES' })
  })

  test('can be opened where the policy says nodev=false: the test above can fail', async () => {
    const open = await Host.start(policy(false))
    try {
      const seen = await tricks(open)
      for (const way of WAYS) expect(seen[way], way).toMatchObject({ open: 'ok' })
    } finally {
      open.close()
    }
  })
})

describe.skipIf(cannot)('the device rules of the caller', () => {
  const V1 = '/sys/fs/cgroup/devices'
  test.skipIf(!existsSync(`${V1}/devices.deny`))('bind the mount on cgroup v1', async () => {
    const group = join(V1, `intercede-test-${process.pid}`)
    mkdirSync(group)
    try {
      writeFileSync(`${group}/devices.deny`, `b 7:* rw`)
      const inGroup = (command: string): Promise<Done> =>
        execute('sh', ['-c', `echo 0 >${group}/cgroup.procs && ${command}`])
      const call = `${fixture('filtered')} ${host.socket} --userns 200000:65536 --await-agent --mounts -- unshare --mount`
      for (const mount of ['mount', 'LIBMOUNT_FORCE_MOUNT2=always mount']) {
        const { status, stderr } = await inGroup(`${call} sh -c '${mount} -t ext4 ${device} /mnt'`)
        expect({ status, stderr }).toMatchObject({ status: 32, stderr: expect.stringContaining('permission denied') })
      }
      writeFileSync(`${group}/devices.allow`, `b 7:* rw`)
      expect(await inGroup(`${call} sh -c 'mount -t ext4 ${device} /mnt && cat /mnt/hello'`)).toMatchObject({
        status: 0,
        stdout: 'hello\n',
      })
    } finally {
      rmdirSync(group)
    }
  })
})

describe.skipIf(cannot)('errors', () => {
  test('are those of the same calls by root of the host, case by case', async () => {
    const command = `mount -t tmpfs none /mnt && ${fixture('mount-errnos')} ${device} /mnt`
    const native = await execute('unshare', ['--mount', 'sh', '-c', command])
    const { stdout, stderr } = await host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', command])
    expect(native.stdout.split('\n').length).toBeGreaterThan(80)
    expect(stderr).toBe('')
    expect(stdout).toBe(native.stdout)
  })
})
