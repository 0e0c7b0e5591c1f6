import { spawn } from 'node:child_process'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import type { Done } from '../../support/host.ts'
import { MIRROR, SUITE, unreachable } from '../../support/mirror.ts'
import { INTERCEDE, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const DEBOOTSTRAP_MS = 400_000

/** Runs `intercede run` to its end; the input is a pipe. */
function run(args: readonly string[], input: string | Buffer = ''): Promise<Done> {
  const child = spawn(process.execPath, [INTERCEDE, 'run', ...args], { timeout: DEBOOTSTRAP_MS })
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text
    })
  }
  child.stdin.on('error', () => {}) // it ended before it had read all
  child.stdin.end(input)
  return new Promise((resolve) => child.once('close', (status) => resolve({ status: status ?? -1, ...said })))
}

const INTERCEPTED = ['-c', 'mknod']

/** Every device node below `directory`, one a line, sorted by name. */
/** A console is an empty file with a mount of ours on it, so find(1), which reads directories, does not see a device. */
const listDevices = (directory: string): string =>
  `find ${directory} \\( -type c -o -type b \\) -exec stat -c "%n %F %t:%T %a %u:%g" {} + | sort`

/**
 * A root file system of Debian, made in a container. The proxy of apt, if there is one, is in the host's /etc/apt, which
 * the container sees.
 */
describe.skipIf(unable())(withReason('a Debian root', unable()), { timeout: DEBOOTSTRAP_MS }, async () => {
  const offline = await unreachable()
  const online = ['--net', 'host', '--env', 'http_proxy']

  /**
   * Where a container may mount, debootstrap without mknod binds the host's devices for the time, and leaves plain files
   * that are called null and zero. As podman starts a container it may not.
   */
  const debootstrap = (mayMount: boolean): string =>
    `${mayMount ? '' : 'setpriv --inh-caps=-sys_admin --bounding-set=-sys_admin '}debootstrap --variant=minbase \
     ${SUITE} made ${MIRROR} >log 2>&1; echo "status $?"; tail -2 log;
     chroot made sh -c 'echo x >/dev/null && stat -c %F /dev/null && dpkg-query -f . -W | wc -c'; du -sm made >&2`

  test.for([
    { mayMount: true, keys: INTERCEPTED, null: 'character special file' },
    { mayMount: false, keys: INTERCEPTED, null: 'character special file' },
    { mayMount: true, keys: [], null: 'regular file' },
  ])('by debootstrap with $keys, mounting $mayMount: /dev/null is a $null', async (row, { skip }) => {
    const { mayMount, keys, null: is } = row
    if (offline) skip(offline)
    const done = await run([...online, ...keys, ...sh(debootstrap(mayMount))])
    expect(done.stdout).toMatch(
      new RegExp(`^status 0\n.*\nI: Base system installed successfully.\n${is}.*\n[1-9]\\d+\n$`),
    )
  })

  test('by debootstrap without a key, where it may not mount: it fails', async ({ skip }) => {
    if (offline) skip(offline)
    const { stdout } = await run([...online, ...sh(debootstrap(false))])
    expect(stdout).toMatch(/^status 1\n/)
    expect(stdout).toContain('E: Cannot install into target')
  })

  /** It tries mknod once, and if that works it insists on all devices, /dev/ptmx among them. */
  test('by mmdebstrap', async ({ skip }) => {
    if (offline) skip(offline)
    const script = `mmdebstrap --mode=root --variant=essential ${SUITE} made ${MIRROR} >log 2>&1; echo "status $?"; tail -1 log
      ${listDevices('made/dev')}`
    const ptmx = ['-c', 'mknod.devices=c:5:2']
    expect((await run([...online, ...INTERCEPTED, ...ptmx, ...sh(script)])).stdout).toMatch(
      /^status 0\nI: success in .*\n(.*\n)*made\/dev\/ptmx character special file 5:2 666 0:0\n/,
    )
    expect((await run([...online, ...sh(script)])).stdout).not.toContain('made/dev/null')
  })
})

/** What the old script of Debian does for each device: made under another name, and then put in place. */
const MAKEDEV = `makedev() {
  name=$1 type=$2 major=$3 minor=$4 mode=$5
  rm -f $name-
  mknod $name- $type $major $minor && chown root:tty $name- && chmod $mode $name- && mv $name- $name
}
mkdir dev && cd dev
makedev mem c 1 1 640
makedev kmem c 1 2 640
makedev null c 1 3 666
makedev port c 1 4 640
makedev zero c 1 5 666
makedev full c 1 7 666
makedev random c 1 8 666
makedev urandom c 1 9 666
makedev kmsg c 1 11 600
makedev tty c 5 0 666
makedev console c 5 1 600
makedev loop0 b 7 0 660
makedev ram0 b 1 0 660
makedev tty0 c 4 0 600
makedev sda b 8 0 660
cd ..
`

const MADE_BY_MAKEDEV = [
  'dev/full character special file 1:7 666 0:5',
  'dev/null character special file 1:3 666 0:5',
  'dev/random character special file 1:8 666 0:5',
  'dev/tty character special file 5:0 666 0:5',
  'dev/urandom character special file 1:9 666 0:5',
  'dev/zero character special file 1:5 666 0:5',
]

interface Member {
  readonly name: string
  /** As tar numbers them: 0 file, 3 character device, 4 block device, 5 directory. */
  readonly type: 0 | 3 | 4 | 5
  readonly mode: number
  readonly device?: readonly [number, number]
}

/** An archive in the format of POSIX, of members without contents. */
function archive(members: readonly Member[]): Buffer {
  return Buffer.concat([...members.map(header), Buffer.alloc(1024)])
}

function header({ name, type, mode, device = [0, 0] }: Member): Buffer {
  const block = Buffer.alloc(512)
  const octal = (value: number, at: number, digits: number): void => {
    block.write(value.toString(8).padStart(digits, '0'), at)
  }
  block.write(name, 0)
  octal(mode, 100, 7)
  for (const at of [108, 116]) octal(0, at, 7)
  for (const at of [124, 136]) octal(0, at, 11)
  block.write(`        ${type}`, 148)
  block.write('ustar\x0000root', 257)
  block.write('root', 297)
  octal(device[0], 329, 7)
  octal(device[1], 337, 7)
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  )
  block.writeUInt8(0, 154)
  return block
}

/** As images of old databases have them. */
const LAYER = archive([
  { name: 'etc/', type: 5, mode: 0o755 },
  { name: 'etc/hostname', type: 0, mode: 0o644 },
  { name: 'dev/', type: 5, mode: 0o755 },
  { name: 'dev/console', type: 3, mode: 0o600, device: [5, 1] },
  { name: 'dev/null', type: 3, mode: 0o666, device: [1, 3] },
  { name: 'var/', type: 5, mode: 0o755 },
  { name: 'var/after', type: 0, mode: 0o600 },
])

const FORBIDDEN = archive([
  { name: 'dev/', type: 5, mode: 0o755 },
  { name: 'dev/mem', type: 3, mode: 0o640, device: [1, 1] },
  { name: 'dev/sda', type: 4, mode: 0o660, device: [8, 0] },
  { name: 'dev/zero', type: 3, mode: 0o666, device: [1, 5] },
])

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '')

describe.skipIf(unable())(withReason('devices in trees', unable()), () => {
  test('MAKEDEV: what is not allowed never comes to be', async () => {
    const { stdout, stderr } = await run([...INTERCEPTED, ...sh(`${MAKEDEV}${listDevices('dev')}; ls dev | wc -l`)])
    // The console is made, but a mount point cannot be renamed: it keeps its first name.
    expect(lines(stdout)).toEqual([...MADE_BY_MAKEDEV, String(MADE_BY_MAKEDEV.length + 1)])
    expect(stderr).toMatch(/cannot (move|overwrite|rename).*console-?.*busy/)
    expect(lines(stderr).filter((line) => line.endsWith('Operation not permitted'))).toEqual(
      ['mem', 'kmem', 'port', 'kmsg', 'loop0', 'ram0', 'tty0', 'sda'].map(
        (name) => `mknod: ${name}-: Operation not permitted`,
      ),
    )
    expect((await run(sh(`${MAKEDEV}${listDevices('dev')}`))).stdout).toBe('')
  })

  test('tar: a tree with devices, packed and unpacked by relative paths', async () => {
    const script = `mkdir -p a/deep x && mknod -m 600 a/full c 1 7 && mknod -m 640 a/deep/null c 1 3 && tar -cf t.tar a &&
      tar -C x -xf t.tar; echo "status $?"; ${listDevices('x')}; echo data >x/a/deep/null && echo works`
    expect((await run([...INTERCEPTED, ...sh(script)])).stdout).toBe(`status 0
x/a/deep/null character special file 1:3 640 0:0
x/a/full character special file 1:7 600 0:0
works
`)
  })

  const unpack = `mkdir image && tar -C image --numeric-owner -xzpf - ; echo "status $?"; ${listDevices('image')}; ls image image/var`
  const console = 'stat -c "%n %F %t:%T %a %u:%g" image/dev/console'

  test('an image layer with dev/console', async () => {
    const { stdout } = await run([...INTERCEPTED, ...sh(`${unpack}; ${console}`)], gzipSync(LAYER))
    expect(stdout).toBe(`status 0
image/dev/null character special file 1:3 666 0:0
image:
dev
etc
var

image/var:
after
image/dev/console character special file 5:1 600 0:0
`)
  })

  test('an image layer with dev/console, without interception', async () => {
    const { stdout, stderr } = await run(sh(unpack), gzipSync(LAYER))
    expect(stdout).toMatch(/^status 2\nimage:\n/)
    expect(stderr).toContain('tar: dev/console: Cannot mknod: Operation not permitted')
  })

  test('an archive with devices that are not allowed: all others are there', async () => {
    const { stdout, stderr } = await run(
      [...INTERCEPTED, ...sh(`tar -xf -; echo "status $?"; ${listDevices('dev')}`)],
      FORBIDDEN,
    )
    expect(stdout).toBe('status 2\ndev/zero character special file 1:5 666 0:0\n')
    expect(stderr).toContain('the device 1:1 is not allowed')
  })
})
