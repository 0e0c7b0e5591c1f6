import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { errnos } from '../../../src/abi/errno.ts'
import { fixture, missing, noI386 } from '../../support/fixtures.ts'
import { BASE, type Done, execute, Host, until } from '../../support/host.ts'
import { Images, must, nodeFor } from '../../support/images.ts'
import { contextsOf, endEngine, mounters, socketsOf } from '../../support/mounters.ts'
import { lacksFileSystem, withReason } from '../../support/skipped.ts'
import { Strace } from '../../support/strace.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4', 'python3')
const noStrace = missing('strace')
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
  device = hostNode(loop)
})
afterAll(() => {
  host?.close()
  images?.[Symbol.dispose]()
})

/** A node that the root of the containers may open. */
const hostNode = (loop: string): string => nodeFor(loop, host.directory, BASE)

/** In a container with a mount namespace of its own, in a directory of its own. */
const contained = (script: string, on = host, options: readonly string[] = []): Promise<Done> =>
  on.run(
    ['--mounts', ...options],
    [
      'unshare',
      '--mount',
      'sh',
      '-c',
      `DEVICE=${device} && mount -t tmpfs none /mnt && cd /mnt && mkdir m && ${script}`,
    ],
  )

const sockets = (): number => socketsOf(host.enginePid)

describe.skipIf(cannot)(withReason('devices in a mount', cannot), () => {
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

const cannotFuse = cannot ?? missing('mksquashfs', 'squashfuse')

describe.skipIf(cannotFuse)(withReason('a file system that the container mounted by itself', cannotFuse), () => {
  let fuse: string
  beforeAll(() => {
    fuse = join(host.directory, 'fuse')
    execFileSync('mknod', [fuse, 'c', '10', '229'])
    chmodSync(fuse, 0o666)
  })
  /** It shows a node of the device, through an overlay: FUSE alone lets nobody else in. */
  const NODE = `mount --bind $FUSE /dev/fuse && mkdir e f o u u/u u/w &&
    mksquashfs e image -quiet -no-progress -p "disk b 666 0 0 7 $NUMBER" >/dev/null && squashfuse -o dev,allow_other image f &&
    mount -t overlay -o lowerdir=f,upperdir=u/u,workdir=u/w,userxattr none o && stat -c %F o/disk`

  test.each(['is mounted by the host', 'is not'])('opens no device by its nodes, where that %s', async (what) => {
    const start = host.records.length
    const victim = images.device('ext4')
    if (what === 'is mounted by the host') await images.mount(victim)
    const ways = ['mount', 'LIBMOUNT_FORCE_MOUNT2=always mount', 'busybox mount']
    const tries = ways.map((mount) => `${mount} -r -t ext4 o/disk m; ls m`).join('; ')
    const number = victim.replace(/\D/g, '')
    const script = `FUSE=${fuse}; NUMBER=${number}; ${NODE}`
    const { stdout, stderr } = await contained(`${script} && (${tries}); umount o f; :`)
    expect(stdout, stderr).toBe('block special file\n')
    await until('the records', () => {
      host.drain()
      return host.records.slice(start).filter(({ errno }) => errno === errnos.EACCES).length === ways.length
    })
  })
})

describe.skipIf(cannot)(withReason('the device rules of the caller', cannot), () => {
  const V1 = '/sys/fs/cgroup/devices'
  const noV1 = existsSync(`${V1}/devices.deny`) ? undefined : 'there is no devices controller of cgroup v1'
  test.skipIf(noV1)(withReason('bind the mount on cgroup v1', noV1), async () => {
    const group = join(V1, `intercede-test-${process.pid}`)
    const loop = images.device('ext4')
    // The kernel asks no rules for what is mounted already.
    await images.mount(loop)
    const mounted = hostNode(loop)
    mkdirSync(group)
    try {
      writeFileSync(`${group}/devices.deny`, `b 7:* rw`)
      const inGroup = (command: string): Promise<Done> =>
        execute('sh', ['-c', `echo 0 >${group}/cgroup.procs && ${command}`])
      const call = `${fixture('filtered')} ${host.socket} --userns 200000:65536 --await-agent --mounts -- unshare --mount`
      const ways = ['mount', 'LIBMOUNT_FORCE_MOUNT2=always mount']
      for (const mount of ways.flatMap((way) => [`${way} -t ext4 ${device}`, `${way} -t ext4 ${mounted}`])) {
        const { status, stderr } = await inGroup(`${call} sh -c '${mount} /mnt'`)
        expect({ status, stderr }).toMatchObject({ status: 32, stderr: expect.stringContaining('permission denied') })
      }
      writeFileSync(`${group}/devices.allow`, `b 7:* rw`)
      expect(await inGroup(`${call} sh -c 'mount -t ext4 ${mounted} /mnt && cat /mnt/hello'`)).toMatchObject({
        status: 0,
        stdout: 'hello\n',
      })
    } finally {
      rmdirSync(group)
    }
  })
})

describe.skipIf(cannot ?? missing('tune2fs'))(
  withReason('no file system makes the machine panic', cannot ?? missing('tune2fs')),
  () => {
    const ways = ['mount', 'LIBMOUNT_FORCE_MOUNT2=always mount', 'busybox mount']
    const tell = (loop: string, option: string): string =>
      ways
        .map(
          (mount) =>
            `${mount} -t ext4 ${option} ${hostNode(loop)} m && grep ^errors /proc/fs/ext4/${loop.slice(5)}/options; umount m`,
        )
        .join('; ')

    test.each([
      { image: 'continue', does: 'continue' },
      { image: 'remount-ro', does: 'remount-ro' },
      { image: 'panic', does: 'remount-ro' },
    ])('an image that says $image: $does, unless the caller says something', async ({ image: says, does }) => {
      const made = images.make('ext4')
      must('tune2fs', ['-e', says, made])
      const loop = images.attach(made)
      const lines = (what: string): string => `errors=${what}\n`.repeat(ways.length)
      const { stdout, stderr } = await contained(
        `${tell(loop, '')}; ${tell(loop, '-o noatime,errors=continue,commit=7')}`,
      )
      expect(stdout, stderr).toBe(lines(does) + lines('continue'))
    })

    test('a caller that says panic mounts nothing', async () => {
      const start = host.records.length
      expect((await contained(tell(images.device('ext4'), '-o commit=7,errors=panic'))).stdout).toBe('')
      await until('the records', () => {
        host.drain()
        return host.records.slice(start).filter(({ reason }) => reason === 'endsMachine').length === ways.length
      })
    })
  },
)

describe.skipIf(cannot)(withReason('errors of mount calls', cannot), () => {
  test('are those of the same calls by root of the host, case by case', async () => {
    const command = `mount -t tmpfs none /mnt && ${fixture('mount-errnos')} ${device} /mnt`
    const native = await execute('unshare', ['--mount', 'sh', '-c', command])
    const { stdout, stderr } = await host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', command])
    expect(native.stdout.split('\n').length).toBeGreaterThan(80)
    expect(stderr).toBe('')
    expect(stdout).toBe(native.stdout)
  })
})

describe.skipIf(cannot)(withReason('a remount', cannot), () => {
  /** mount(8) would take options from the host's /proc/self/mountinfo, whose ids mean nothing in the container. */
  const REMOUNT =
    'import ctypes,os; r=ctypes.CDLL(None,use_errno=True).mount(b"none",b"m",None,0x20,os.environb[b"OPT"])'

  test.each([
    { what: 'of what we mounted', mount: 'ext4 $DEVICE', options: 'commit=9', status: 1, reason: 'remountsFileSystem' },
    { what: 'of its own tmpfs', mount: 'tmpfs none', options: 'size=64k', status: 0, reason: 'kernelMountsIt' },
  ])('$what is left to the kernel: $reason', async ({ mount, options, status, reason }) => {
    const start = host.records.length
    const remount = `OPT=${options} python3 -c '${REMOUNT}; exit(-r)'`
    const done = await contained(`export LIBMOUNT_FORCE_MOUNT2=always && mount -t ${mount} m && ${remount}`)
    expect(done).toMatchObject({ status, stderr: '' })
    await until('the record', () => {
      host.drain()
      return host.records.length >= start + 3
    })
    expect(host.records.at(-1)).toMatchObject({ verdict: 'continue', reason })
  })
})

describe.skipIf(cannot)(withReason('callers of mount(2)', cannot), () => {
  const mount = (options: readonly string[] = [], target = 'm'): string =>
    [fixture('caller'), ...options, 'mount', target, '$DEVICE', 'ext4'].join(' ')

  test.for([
    { what: 'relative', script: mount() },
    { what: 'from another thread', script: mount(['--thread']) },
    { what: 'in i386 code', script: mount(['--i386']) },
    { what: 'by a descriptor', script: `exec 9<m; ${mount([], '/proc/self/fd/9')}` },
    { what: 'through a link', script: `ln -s m l; ${mount([], 'l')}` },
    { what: 'up and down', script: mount([], '../mnt/./m/') },
    { what: 'with a pointer that ends at a page', script: mount(['--bad-pointer', 'edge']) },
  ])('$what: mounted', async ({ what, script }, { skip }) => {
    if (noI386 && what === 'in i386 code') skip(noI386)
    const { stdout, stderr } = await contained(`${script} && cat m/hello && umount m`)
    expect({ stdout, stderr }).toEqual({ stdout: '{"ok":true}\nhello\n', stderr: '' })
  })

  test('in a chroot the target and the source are those of the chroot', async () => {
    const script = `mkdir r r/m r/dev && touch r/dev/disk && mount --bind ${device} r/dev/disk &&
      ${fixture('caller')} --chroot r mount /m /dev/disk ext4 && cat r/m/hello && grep -o '/dev/disk' /proc/self/mountinfo`
    const { stdout, stderr } = await contained(script)
    expect({ stdout, stderr }).toEqual({ stdout: '{"ok":true}\nhello\n/dev/disk\n/dev/disk\n', stderr: '' })
  })

  test.each([
    { what: 'root of a child user namespace', script: mount(['--userns']), reason: 'childUserns' },
    {
      what: 'root without the capability',
      script: `setpriv --bounding-set -sys_admin ${mount()}`,
      reason: 'lacksCapability',
    },
    {
      what: 'another user',
      script: `setpriv --reuid 1000 --regid 1000 --clear-groups ${mount()}`,
      reason: 'lacksCapability',
    },
  ])('$what: what the kernel alone says', async ({ script, reason }) => {
    const { stdout } = await contained(script)
    expect(stdout).toBe('{"errno":"EPERM"}\n')
    await until('the record', () => {
      host.drain()
      return host.records.at(-1)?.reason === reason
    })
  })

  test('root of a child user namespace gets nothing by the new mount API, nor by a context that its parent gave', async () => {
    const start = host.records.length
    const child = 'unshare --user --map-root-user --mount'
    const given = `${fixture('mount-contexts')} ${device} given ${child} ${fixture('mount-contexts')} ${device} inherited`
    const { stdout, stderr } = await contained(`${child} mount -t ext4 $DEVICE m; ls m; ${given}`)
    expect(stderr).toMatch(/permission denied/)
    expect(stdout, stderr).toBe('create: EPERM\nfsmount: EINVAL\n')
    await until('the records', () => {
      host.drain()
      return host.records.slice(start).filter(({ reason }) => reason === 'childUserns').length === 3
    })
  })

  test('a user that has only CAP_SYS_ADMIN cannot mount a device that it may not open', async () => {
    const become = 'setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps +sys_admin --ambient-caps +sys_admin'
    const { stdout, stderr } = await contained(`${become} ${mount()}; chmod 666 $DEVICE; ${become} ${mount()}`)
    chmodSync(device, 0o600)
    expect({ stdout, stderr }).toEqual({ stdout: '{"errno":"EACCES"}\n{"ok":true}\n', stderr: '' })
    await until('the record', () => {
      host.drain()
      return host.records.some(({ errno, reason }) => errno === errnos.EACCES && reason === 'sourceClosed')
    })
  })

  test('a device that it may only read is mounted read-only, and else not', async () => {
    const without = 'setpriv --bounding-set -dac_override --inh-caps -dac_override'
    chmodSync(device, 0o400)
    const script = ['mount', 'LIBMOUNT_FORCE_MOUNT2=always mount']
      .flatMap((mount) => ['-w', '-r'].map((how) => `${mount} ${how} -t ext4 $DEVICE m`))
      .map((mount) => `${without} env ${mount}; echo $?; umount m 2>/dev/null`)
      .join('; ')
    const { stdout, stderr } = await contained(script)
    chmodSync(device, 0o600)
    expect(stdout, stderr).toBe('32\n0\n32\n0\n')
    expect(stderr).toMatch(/write-protected but explicit read-write/)
  })

  test('a device that it may only read is not mounted to be written by an option that contradicts the flag', async () => {
    chmodSync(device, 0o400)
    const without = 'setpriv --bounding-set -dac_override --inh-caps -dac_override'
    const call = `${without} ${fixture('mount-call')} ext4 $DEVICE m`
    const { stdout, stderr } = await contained(
      `${call} rw 1; ${call} ro 0 && umount m; ${call} rw,ro 1 && umount m && echo ok`,
    )
    chmodSync(device, 0o600)
    expect({ stdout, stderr }).toEqual({ stdout: 'EACCES\nok\n', stderr: '' })
  })

  test.skipIf(noStrace)(
    withReason('a device that it may only read is opened read-only, also by drivers that take no option ro', noStrace),
    async () => {
      const without = 'setpriv --bounding-set -dac_override --inh-caps -dac_override'
      const script = `${without} ${fixture('mount-call')} ext4 $DEVICE m ro 0 && grep -o 'm r.* - ext4' /proc/self/mountinfo && umount m`
      await contained('mount -t ext4 $DEVICE m && umount m')
      const output = join(host.directory, 'read-only')
      const traces = await Promise.all(
        mounters(host.enginePid).map((pid) => Strace.attach(Number(pid), ['-ff', '-e', 'trace=mount', '-o', output])),
      )
      chmodSync(device, 0o400)
      const { stdout, stderr } = await contained(script)
      chmodSync(device, 0o600)
      for (const trace of traces) await trace.end()
      // The mount itself is as it was asked for.
      expect(stdout, stderr).toMatch(/^m rw,/)
      const calls = readdirSync(host.directory)
        .filter((name) => name.startsWith('read-only.'))
        .map((name) => readFileSync(join(host.directory, name), 'latin1'))
      expect(calls.join('')).toMatch(/"ext4", MS_RDONLY, ".*ro"/)
    },
  )

  test('in the mount namespace of the host nothing is mounted', async () => {
    const { result, records } = await host.call(['mount', '/mnt', device, 'ext4'], ['--mounts'])
    expect(result).toBe('EPERM')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'hostMounts' }])
  })
})

describe.skipIf(cannot)(withReason('a context of fsopen(2) that is not ours', cannot), () => {
  const contexts = (what: string): string => `${fixture('mount-contexts')} ${device} ${what}`

  test('gives nothing, though root of the host opened it', async () => {
    const opener = [
      fixture('mount-opener'),
      fixture('filtered'),
      host.socket,
      '--userns',
      `${BASE}:65536`,
      '--await-agent',
    ]
    const command = ['--mounts', '--', 'unshare', '--mount', fixture('mount-contexts'), device, 'inherited', '9']
    const { stdout, stderr } = await execute(opener[0]!, [device, ...opener.slice(1), ...command])
    expect({ stdout, stderr }).toEqual({ stdout: 'create: EPERM\nfsmount: EINVAL\n', stderr: '' })
  })

  test('gives nothing if it is of another container', async () => {
    const socket = join(host.directory, 'contexts.sock')
    const [sent, received] = await Promise.all([
      contained(contexts(`send ${socket}`)),
      contained(contexts(`receive ${socket}`)),
    ])
    expect(sent).toMatchObject({ status: 0, stderr: '' })
    expect(received.stdout).toBe('create: EPERM\nfsmount: EINVAL\n')
  })

  test('is judged by the kernel, though it has the number of ours', async () => {
    const { stdout } = await contained(contexts('reused'))
    expect(stdout).toBe('same number: ok\ncreate: ok\nfsmount: ok\ntype: 1021994\n')
  })

  test('does not take the place of ours where the caller could get no descriptor of it', async () => {
    const { stdout, stderr } = await contained(contexts('full'))
    expect({ stdout, stderr }).toEqual({ stdout: 'refused: 40\ncreate: ok\nfsmount: ok\ntype: ef53\n', stderr: '' })
  })

  test('is ours as long as a thread has it, though the first thread of its process has ended', async () => {
    const { stdout, stderr } = await contained(contexts('threaded'))
    expect({ stdout, stderr }).toEqual({ stdout: 'create: ok\nfsmount: ok\ntype: ef53\n', stderr: '' })
  })

  test('is one of many, of which only the last are known', async () => {
    expect((await contained(contexts('hoarded'))).stdout).toBe('made: 16\n')
  })

  test('is one of all, of which another container has its part while sixteen containers hold as many as they can', async () => {
    const holding = ['unshare', '--mount', fixture('mount-contexts'), device, 'held']
    const filtered = [host.socket, '--userns', `${BASE}:65536`, '--mounts', '--await-agent', '--', ...holding]
    const holders = Array.from({ length: 16 }, () => {
      const child = spawn(fixture('filtered'), filtered, { stdio: ['pipe', 'pipe', 'inherit'] })
      let said = ''
      child.stdout.on('data', (data) => {
        said += data
      })
      return { child, holds: () => said === 'held\n' }
    })
    try {
      await until('all of them hold theirs', () => holders.every(({ holds }) => holds()))
      const { stdout, stderr } = await contained(`${contexts('held')} </dev/null`)
      expect({ stdout, stderr }).toEqual({ stdout: 'held\ncreate: ok\nfsmount: ok\ntype: ef53\n', stderr: '' })
      expect(contextsOf(host.enginePid)).toBeGreaterThan(100)
    } finally {
      for (const idle of mounters(host.enginePid)) process.kill(Number(idle), 'SIGKILL')
      await until('no mounter is left', () => mounters(host.enginePid).length === 0)
      for (const { child } of holders) child.kill('SIGKILL')
      await until('they are gone', () =>
        holders.every(({ child }) => child.exitCode !== null || child.signalCode !== null),
      )
    }
    // What all of them leave is closed by one mounter after the other: the rest is for those who mount.
    let most = 0
    await until('all is closed', () => {
      const all = mounters(host.enginePid).length
      most = Math.max(most, all)
      return most > 0 && contextsOf(host.enginePid) === 0
    })
    expect(most).toBeLessThanOrEqual(2)
  })

  test('is of its own fspick(2): the file system of the host stays as it is', async () => {
    const { stdout } = await contained(`${fixture('mount-contexts')} / pick`)
    expect(stdout).toMatch(/^told: \w+\nreconfigure: EPERM\n$/)
    writeFileSync(join(host.directory, 'written'), '')
  })
})

describe.skipIf(cannot)(withReason('a mount of hugetlbfs', cannot), () => {
  const unknown = lacksFileSystem('hugetlbfs')
  test.skipIf(unknown)(withReason('belongs to ids of the container', unknown), async () => {
    const seen = (mount: string, options: string): string =>
      `${mount} -t hugetlbfs ${options} none m && stat -c %u:%g m; umount m`
    const ways = ['mount', 'LIBMOUNT_FORCE_MOUNT2=always mount']
    const script = ways
      .flatMap((way) => [seen(way, ''), seen(way, '-o uid=5,gid=7'), seen(way, '-o uid=70000')])
      .join('; ')
    expect((await contained(script)).stdout).toBe('0:0\n5:7\n0:0\n5:7\n')
  })
})

describe.skipIf(cannot)(withReason('many mounts of ext4', cannot), () => {
  test('a mounter that was killed is replaced', async () => {
    const script = 'mount -t ext4 $DEVICE m && cat m/hello && umount m'
    expect(await contained(script)).toMatchObject({ stdout: 'hello\n' })
    for (const idle of mounters(host.enginePid)) process.kill(Number(idle), 'SIGKILL')
    await until('none is left', () => mounters(host.enginePid).length === 0)
    expect(await contained(script)).toMatchObject({ stdout: 'hello\n', stderr: '' })
  })

  test('a mounter that waits outlives its engine, serves the next one, and ends when nobody mounts any more', async () => {
    const script = 'mount -t ext4 $DEVICE m && cat m/hello && umount m'
    let mounter: string | undefined
    // One that has not come to wait when its engine ends is not used again: on a busy machine, that is tried anew.
    for (let tries = 0; tries < 3 && (tries === 0 || mounters(host.enginePid).length > 0); tries++) {
      expect(await contained(script)).toMatchObject({ stdout: 'hello\n' })
      mounter = mounters(host.enginePid)[0]
      await endEngine(host)
      expect(await contained(script)).toMatchObject({ stdout: 'hello\n', stderr: '' })
    }
    expect(mounters(host.enginePid)).toEqual([])
    const { keeperFds, engineFds } = host.footprint
    await until('it has ended', () => !existsSync(`/proc/${mounter}`), 20)
    await until('no descriptor of it is left', () => host.footprint.keeperFds <= keeperFds - 2)
    // What it has given to its threads is closed somewhat later.
    await until('nor in the engine', () => host.footprint.engineFds <= engineFds - 1)
    expect(await contained(script)).toMatchObject({ stdout: 'hello\n', stderr: '' })
  }, 40_000)

  test('at once wait for each other', async () => {
    const script = `for i in 1 2 3 4 5 6; do mkdir $i; mount -t ext4 $DEVICE $i & done; wait; cat ?/hello | wc -l`
    const { stdout, stderr } = await contained(script)
    expect({ stdout, stderr }).toEqual({ stdout: '6\n', stderr: '' })
  })

  /** How many sockets there are without mounters: those that wait are ended, since one may end by itself at any moment. */
  async function socketsAtRest(): Promise<number> {
    for (const idle of mounters(host.enginePid)) process.kill(Number(idle), 'SIGKILL')
    await until('none is left', () => mounters(host.enginePid).length === 0)
    return sockets()
  }

  async function mustBeAsBefore(before: number): Promise<void> {
    const loop = device.split('/').at(-1)!
    await until('the device is free', () => !existsSync(`/proc/fs/ext4/${loop}`))
    await until('those wait that one container can use', () => mounters(host.enginePid).length <= 2)
    await until('no descriptor is left', () => sockets() <= before + mounters(host.enginePid).length, 15)
  }

  test('a caller that is killed at any moment leaves nothing that cannot be unmounted', async () => {
    const before = await socketsAtRest()
    const kill = (way: string): string => `sh -c "timeout -s KILL 0.$i ${way} -t ext4 ${device} m; :" 2>/dev/null`
    const free = 'while grep -q " /mnt/m " /proc/self/mountinfo; do umount m || exit 1; done'
    const moments = '01 03 05 08 12 16 20 30'
    const ways = ['mount', 'busybox mount'].map((way) => `${kill(way)}; sleep 0.3; ${free}`).join('; ')
    const { stdout, stderr } = await contained(
      `for i in ${moments}; do ${ways}; done; mount ${device} m && cat m/hello && umount m`,
    )
    expect({ stdout, stderr }).toEqual({ stdout: 'hello\n', stderr: '' })
    await mustBeAsBefore(before)
  })

  // 20 ms each, but 300 ms on a machine that is busy ten times over.
  test('200 cycles leave nothing behind', { timeout: 180_000 }, async () => {
    const before = await socketsAtRest()
    const cycle = `mount -t ext4 ${device} m && umount m && LIBMOUNT_FORCE_MOUNT2=always mount -o ro ${device} m && umount m`
    const { stderr, status } = await contained(`for i in $(seq 100); do ${cycle} || exit 1; done`)
    host.drain()
    const last = JSON.stringify(host.records.slice(-8))
    expect({ stderr, status }, `the last records: ${last}`).toEqual({ stderr: '', status: 0 })
    await mustBeAsBefore(before)
  })
})
