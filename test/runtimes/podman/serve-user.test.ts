import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../../support/fixtures.ts'
import { FUSE_KEYS, installFuse, lacksFuse, MOUNT, MOUNTED } from '../../support/fuse-image.ts'
import { must } from '../../support/images.ts'
import { Machine } from '../../support/machine.ts'
import { writeProfile } from '../../support/podman.ts'
import { withReason } from '../../support/skipped.ts'
import { asUser } from '../../support/user.ts'

const absent = missing('podman', 'crun', 'busybox', 'newuidmap') ?? lacksFuse()
/** One of each family, and a program for devices as crun loads it: `mov r0, 1; exit`. */
const INSNS = `b700000001000000${'95'.padEnd(16, '0')}`
const CALLS = `four-calls /tmp; mount2 ext2 /ext4.img /mnt; echo "${load()}" | bpf-calls`

/** BPF_PROG_LOAD of a program of type BPF_PROG_TYPE_CGROUP_DEVICE, for bpf-calls. */
function load(): string {
  const attr = Buffer.alloc(48)
  attr.writeUInt32LE(15, 0)
  attr.writeUInt32LE(INSNS.length / 16, 4)
  return `bpf 5 48 ${attr.toString('hex')} 8:${INSNS} 16:47504c00`
}

/** Run in this order as a user, beside the daemon of that user: what each prints. */
const steps = {
  outside: 'intercede serve --user',
  inside: '$PODMAN unshare intercede serve',
  doctor: '$PODMAN unshare intercede doctor | tail -n 1; $PODMAN unshare intercede doctor >/dev/null && echo well',
  orders: 'intercede reload 2>&1; intercede set one sysinfo 2>&1',
  withheld: 'intercede flags podman --user -c sysinfo -c mknod',
  socket: 'stat -c "%a %U" $XDG_RUNTIME_DIR/intercede/oci.sock',
  plain: 'podman_run $FLAGS alice sh -c "$MOUNT"',
  auto: 'podman_run --userns=auto $FLAGS alice sh -c "$MOUNT"',
  exec: `podman_run -d --name one $FLAGS alice sleep 1000 >/dev/null
$PODMAN exec -i one sh -c "$MOUNT" <&8; $PODMAN rm --force --time 0 one >/dev/null`,
  keepId: 'podman_run --userns=keep-id $FLAGS alice four-calls /tmp',
  nomap: 'podman_run --userns=nomap $FLAGS alice four-calls /tmp',
  explain: `podman_run -d --name off --annotation security.syscalls.intercept.sysinfo=false $FLAGS alice \\
  sh -c 'four-calls /tmp; sleep 1000' >/dev/null
until intercede explain off | grep -q keyOff; do sleep 0.1; done; intercede explain off --format json
$PODMAN rm --force --time 0 off >/dev/null`,
  mount8: `podman_run $(intercede flags podman --user -c mount -c mount.fuse=image=fuse2fs --write) alice \\
  sh -c '/bin/mount -t image /ext4.img /mnt; cat /mnt/hello'`,
  crun: '$PODMAN unshare crun --cgroup-manager=disabled run --bundle "$SCRATCH/bundle" by-crun </dev/zero',
  served: 'podman_run --cap-add MKNOD,SYS_NICE,SYS_ADMIN --security-opt seccomp=$SCRATCH/all.json alice sh -c "$CALLS"',
  stock: 'podman_run --cap-add MKNOD,SYS_NICE,SYS_ADMIN alice sh -c "$CALLS"',
  alone: `unshare --map-root-user --map-auto --mount sh -c '
intercede serve --user --socket $SCRATCH/alone/oci.sock 2>alone.log & until grep -qs serving alone.log || ! kill -0 $!; do sleep 0.1; done
crun --cgroup-manager=disabled run --bundle $SCRATCH/alone alone </dev/zero'`,
} as const
type Step = keyof typeof steps

/**
 * Without -i podman gives the container the host's /dev/null, which crun takes from root. Its standard input says nothing and has
 * no end: where that cannot be passed on any more, podman ends before it has passed on what the container has printed last.
 */
const START = `PODMAN="podman --runtime crun --cgroup-manager cgroupfs"
MOUNT='four-calls /tmp; ${MOUNT}'
CALLS='${CALLS}'
mkfifo idle && exec 8<>idle
podman_run() { $PODMAN run --rm -i --cgroups=disabled --network=none "$@" <&8; }
$PODMAN import --quiet - alice <"$SCRATCH/image.tar" >/dev/null
$PODMAN unshare intercede serve --user 2>log &
until grep -qs serving log || ! kill -0 $!; do sleep 0.1; done
FLAGS=$(intercede flags podman --user -c sysinfo ${FUSE_KEYS.join(' ')} --write)
`

let machine: Machine
const printed = {} as Record<Step, string>
let log: readonly Readonly<Record<string, unknown>>[] = []

beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  const at = (...names: readonly string[]): string => join(machine.directory, ...names)
  for (const name of ['four-calls', 'bpf-calls']) copyFileSync(fixture(name, ['-static']), at('rootfs/bin', name))
  await installFuse(machine)
  must('tar', ['-C', machine.rootfs, '-cf', at('image.tar'), '.'])
  const socket = (path: string): readonly string[] => ['--listener', at(path)]
  const keys = ['mknod', 'sched_setscheduler', 'setxattr', 'bpf', 'bpf.devices', 'mount', 'mount.allowed=ext2']
  const all = keys.flatMap((key) => ['-c', key])
  const base = ['--runtime', 'podman', '--base', '/usr/share/containers/seccomp.json']
  await writeProfile(machine, 'all.json', [...all, ...base, ...socket('user-run/intercede/oci.sock')])
  await bundle('bundle', socket('user-run/intercede/oci.sock'))
  await bundle('alone', socket('alone/oci.sock'))
  must('chown', ['1234:1234', at('alone')])
  const marked = Object.entries(steps).map(([name, commands]) => `echo "=== ${name}"\n${commands} 2>&1\n`)
  const { stdout, stderr, status } = await asUser(machine, START + marked.join(''))
  for (const part of stdout.split(/^=== /m).slice(1)) {
    const end = part.indexOf('\n')
    printed[part.slice(0, end) as Step] = part.slice(end + 1)
  }
  expect(status, stdout + stderr).toBe(0)
  log = readFileSync(at('home/log'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
})
afterAll(() => machine.close())

/** A container in the user namespace in which crun runs. */
async function bundle(name: string, listener: readonly string[]): Promise<void> {
  const folder = join(machine.directory, name)
  must('mkdir', [folder])
  const profile = await writeProfile(machine, `${name}/profile.json`, ['-c', 'sysinfo', ...listener])
  const spec = {
    ociVersion: '1.0.2',
    process: { user: { uid: 0, gid: 0 }, args: ['four-calls', '/tmp'], env: ['PATH=/bin'], cwd: '/' },
    root: { path: machine.rootfs },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      ...['/dev', '/tmp'].map((destination) => ({ destination, type: 'tmpfs', source: 'tmpfs' })),
    ],
    linux: {
      namespaces: ['pid', 'mount', 'ipc', 'uts'].map((type) => ({ type })),
      seccomp: JSON.parse(readFileSync(profile, 'utf8')),
    },
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(spec))
}

const REFUSED = { mknod: 'EPERM', tun: 'EPERM', setxattr: 'EPERM', sched: 'EPERM' }
const calls = (text: string) => JSON.parse(text.split('\n')[0]!) as Record<string, unknown>
/** Of this container, which is younger than a minute; the machine was up for longer than the tests of this file took. */
const ownUptime = (text: string): void => {
  const { uptime, ...others } = calls(text)
  expect(others).toEqual(REFUSED)
  expect(uptime).toBeLessThan(Math.min(60, Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0])))
}

describe.skipIf(absent)(withReason('serve --user', absent), () => {
  test('says at its start what it serves, and serve and doctor where it can be', () => {
    expect(log[0]).toMatchObject({
      message: 'serving',
      socket: join(machine.directory, 'user-run/intercede/oci.sock'),
      limits: expect.stringContaining('only sysinfo and mount.fuse are served'),
    })
    expect(log[0]).not.toHaveProperty('lxcSocket')
    expect(printed.outside).toMatch(
      /this user namespace is the one of the host; .*podman unshare intercede serve --user/,
    )
    expect(printed.inside).toMatch(/this user namespace is not the one of the host.*use --user/)
    expect(printed.doctor).toBe('only intercede serve --user can work here: it serves sysinfo and mount.fuse\nwell\n')
    expect(printed.socket).toBe('600 alice\n')
  })

  test.each(['plain', 'auto', 'exec'] as const)('podman (%s): sysinfo, and a mount by a FUSE program', (step) => {
    ownUptime(printed[step])
    expect(printed[step].split('\n').slice(1)).toEqual([...MOUNTED, ''])
  })

  test.each(['keepId', 'nomap'] as const)('podman with --userns (%s): sysinfo', (step) => {
    expect(calls(printed[step]).uptime).toBeLessThan(60)
  })

  test('explain does not say that anybody can set keys', () => {
    expect(JSON.parse(printed.explain.split('\n')[0]!)).toMatchObject([
      {
        ...{ reason: 'keyOff', wants: { key: 'sysinfo', value: 'true' } },
        now: 'nothing: a daemon of --user takes no orders',
        forGood:
          'change the annotation security.syscalls.intercept.sysinfo of the container, and where its profile lacks the value too, the profile: an annotation only lowers',
      },
    ])
  })

  test('mount(8) mounts an image file by a type that it does not know', () => {
    expect(printed.mount8).toBe('hello\n')
  })

  test.each(['crun', 'alone'] as const)('crun in the same user namespace (%s): sysinfo', (step) => {
    ownUptime(printed[step])
  })

  test('all other keys: the kernel says what it says without intercede, and the log says why', () => {
    const { uptime: _, ...served } = calls(printed.served)
    const { uptime: __, ...stock } = calls(printed.stock)
    expect(served).toEqual(REFUSED)
    expect(stock).toEqual(REFUSED)
    expect(printed.served.split('\n').slice(1)).toEqual(['EPERM', expect.stringMatching(/^EPERM/), ''])
    expect(printed.stock.split('\n').slice(1)).toEqual(['EPERM', expect.stringMatching(/^EPERM/), ''])

    const { container, cannot } = log.find(({ cannot: left }) => left !== undefined)!
    const P = 'security.syscalls.intercept.'
    const keys = ['mknod', 'bpf', 'mount.allowed', 'sched_setscheduler', 'setxattr'].map((key) => `${P}${key}`)
    expect((cannot as string[]).map((line) => line.split(':')[0])).toEqual(keys)
    const mine = log.filter((line) => line.container === container && line.message === 'call')
    for (const syscall of ['mknodat', 'setxattr', 'sched_setscheduler', 'mount', 'bpf']) {
      const reasons = mine.filter((line) => line.syscall === syscall).map(({ reason }) => reason)
      expect([syscall, ...new Set(reasons)]).toEqual([syscall, 'userDaemon'])
    }
  })

  test('a key that cannot be served for a user is refused where it is written', () => {
    expect(printed.orders).toMatch(
      /^(intercede: Cannot give orders: a daemon of --user takes none; change its .* SIGHUP, .*\n){2}$/,
    )
    expect(printed.withheld).toMatch(
      /intercept\.mknod cannot be served for a user; the kernel lets only root of the host/,
    )
  })
})
