import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  BUILDERS,
  type Builder,
  building,
  listing,
  makeInput,
  onTmpfs,
  parse,
  SYSTEM_BUILDERS,
} from '../../support/builders.ts'
import { missing } from '../../support/fixtures.ts'
import type { Done } from '../../support/host.ts'
import { must } from '../../support/images.ts'
import { Machine } from '../../support/machine.ts'
import { Podman, writeProfile } from '../../support/podman.ts'
import { INTERCEDE, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

/** What builders of images make in a container is compared with what they make as root of the host, file by file. */

const cannot =
  unable() ?? missing('crun', 'tar', 'cpio', 'mmdebstrap', 'debootstrap', 'mkfs.ext4', 'losetup', 'getfattr')
const MKNOD = ['mknod', 'mknod.devices=c:5:2', 'setxattr', 'setxattr.read']
const MOUNT = ['mount', 'mount.allowed=ext4,tmpfs', 'mount.shift']
const KEYS = [...MKNOD, ...MOUNT].flatMap((key) => ['-c', key])

const MUCH = 256 * 1024 * 1024
const TIMEOUT = process.env.INTERCEDE_BUILDERS ? 3_600_000 : 120_000

let work: string
let input: string
const since = Math.floor(Date.now() / 1000)
const devices: string[] = []
/** With INTERCEDE_BUILDERS=all whole systems, too: half an hour, and what docs/guide/builders.md says of them. */
const isLong = process.env.INTERCEDE_BUILDERS === 'all'
const builders = isLong ? [...BUILDERS, ...SYSTEM_BUILDERS] : BUILDERS
const builds = (by: readonly Builder[] = builders): string => building(by, input)
const lists = (by = builders): string => listing(by, input, since)
const buildsAndLists = (by = builders): string => `${builds(by)}\n${lists(by)}`

beforeAll(() => {
  if (cannot) return
  work = mkdtempSync(join(tmpdir(), 'intercede-builders-'))
  chmodSync(work, 0o755)
  input = join(work, 'input')
  for (const [name, mode] of [
    ['input', 0o755],
    ['closed', 0o700],
    ['closed/out', 0o755],
  ] as const)
    mkdirSync(join(work, name), { mode })
  makeInput(input)
})
afterAll(() => {
  for (const device of devices) must('losetup', ['--detach', device])
  if (work) rmSync(work, { recursive: true, force: true })
})

function contained(options: readonly string[], script: string): string {
  const binds = ['--bind', `${input}:${input}:ro`, '--bind', `${work}/closed/out:/out:idmap`]
  const args = [INTERCEDE, 'run', ...KEYS, '--net', 'host', '--env', 'http_proxy', ...binds, ...options, ...sh(script)]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', input: '', maxBuffer: MUCH })
  return `${stdout}\n${stderr}`
}

function image(): string {
  const file = join(work, `image-${devices.length}`)
  must('truncate', ['-s', isLong ? '3G' : '64M', file])
  must('mkfs.ext4', ['-q', file])
  devices.push(must('losetup', ['--find', '--show', file]).trim())
  return devices.at(-1)!
}
/** An overlay takes whiteouts from nobody. */
const onOverlay = (by = builders): string =>
  `mkdir l u w m; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m; cd m; ${buildsAndLists(by)}`
/** Mounts a directory of a container's ids so that its root is root: podman takes the first ids of /etc/subuid. */
const asMapped = (path: string): string => `mount --bind -o X-mount.idmap=b:300000:0:65536 ${path} /mnt`
/**
 * debootstrap mounts a tmpfs on /dev where devices do not open. In a container it hides our mount of the console, and
 * umount -R goes by the numbers of mounts, which the kernel uses again: it may want to unmount the hidden one first, by
 * a path that leads nowhere.
 */
const inImage = (device: string, options: string, by: readonly Builder[]): string =>
  `mount -t ext4 ${options} ${device} /mnt && mkdir /mnt/b && cd /mnt/b && { ${builds(by)}
}; cd /; for dev in /mnt/b/*/dev; do mountpoint -q $dev && umount -R $dev; done; umount -R /mnt`
const ofImage = (file: string, by: readonly Builder[]): string =>
  must('unshare', [
    '--mount',
    'sh',
    '-c',
    `mount -o ro,loop ${file} /mnt && cd /mnt/b && { ${lists(by)}
}; cd /; umount /mnt`,
  ])

/** Lines of a builder that only one side has. */
interface Difference {
  readonly native: readonly string[]
  readonly ours: readonly string[]
}

function compare(native: string, ours: string): Record<string, Difference> {
  const [theirs, own] = [parse(native), parse(ours)]
  expect([...own.keys()], ours).toEqual([...theirs.keys()])
  const found = [...theirs].map(([name, lines]) => {
    const [had, has] = [new Set(lines), new Set(own.get(name))]
    expect(had.size).toBeGreaterThan(10)
    return [
      name,
      { native: lines.filter((line) => !has.has(line)), ours: [...has].filter((line) => !had.has(line)) },
    ] as const
  })
  if (isLong) console.log(JSON.stringify(found, undefined, 1))
  return Object.fromEntries(found.filter(([, { native, ours }]) => native.length + ours.length > 0))
}

const device = (name: string, numbers: string, rest: string): string =>
  `./${name}|character special file|${numbers}|${rest}`
const IN_DEV = [
  ...([
    ['console', '5:1'],
    ['full', '1:7'],
    ['null', '1:3'],
    ['ptmx', '5:2'],
    ['random', '1:8'],
    ['tty', '5:0'],
  ] as const),
  ...([
    ['urandom', '1:9'],
    ['zero', '1:5'],
  ] as const),
]
const PACKAGES = ['apt', 'base', 'more']
const DISK = './disk|block special file|8:0|660|0:0|1|0|1580601600.000000000'
/** The digest of an empty file. */
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
/** The attribute of an overlay's own is kept under a name that means nothing to that overlay. */
const IN_PODMAN_OPAQUE = ['opaque trusted.overlay.opaque=0x79', 'opaque trusted.overlay.overlay.opaque=0x79'] as const
/**
 * Where one of ours is mounted on a node, what becomes of the node changes ours. The node below keeps what it was made
 * with: by tar as 0600 of root, by cpio with its mode. What \`rm\` should remove stays.
 */
const IN_PODMAN: Record<string, Difference> = {
  tar: {
    native: [
      device('console', '5:1', '600|0:0|1|0|1580601600.000000000'),
      device('deep/er/tty', '5:0', '620|0:0|1|0|946684799.123456789'),
      device('deep/null', '1:3', '666|0:0|1|0|946684799.123456789'),
      DISK,
      device('null', '1:3', '666|0:0|1|0|946684799.123456789'),
      device('zero', '1:5', '600|1000:7|1|0|946684799.123456789'),
      IN_PODMAN_OPAQUE[0],
    ],
    ours: [
      './console|regular empty file|0:0|600|0:0|1|0|new',
      ...[
        ['deep/er/tty', '5:0'],
        ['deep/null', '1:3'],
        ['null', '1:3'],
        ['zero', '1:5'],
      ].map(([name, numbers]) => device(name!, numbers!, '600|0:0|1|0|new')),
      `${EMPTY}  ./console`,
      IN_PODMAN_OPAQUE[1],
    ],
  },
  cpio: {
    native: [
      device('console', '5:1', '600|0:0|1|0|1580601600.000000000'),
      device('deep/er/tty', '5:0', '620|0:0|1|0|946684799.000000000'),
      device('deep/null', '1:3', '666|0:0|2|0|946684799.000000000'),
      DISK,
      device('null', '1:3', '666|0:0|2|0|946684799.000000000'),
      device('zero', '1:5', '600|1000:7|1|0|946684799.000000000'),
    ],
    ours: [
      './console|regular empty file|0:0|600|0:0|1|0|new',
      ...[
        ['deep/er/tty', '5:0', '620'],
        ['deep/null', '1:3', '666'],
        ['null', '1:3', '666'],
        ['zero', '1:5', '600'],
      ].map(([name, numbers, mode]) => device(name!, numbers!, `${mode}|0:0|1|0|new`)),
      `${EMPTY}  ./console`,
    ],
  },
  debootstrap: {
    native: [
      ...IN_DEV.map(([name, numbers]) => device(`dev/${name}`, numbers, '666|0:0|1|0|new')),
      ...PACKAGES.map((name) => device(`var/lib/${name}/full`, '1:7', '666|0:0|1|0|1609459200.000000000')),
    ],
    ours: [
      './dev/console|regular empty file|0:0|644|0:0|1|0|new',
      ...IN_DEV.slice(1).map(([name, numbers]) => device(`dev/${name}`, numbers, '644|0:0|1|0|new')),
      device('test-dev-null', '1:3', '644|0:0|1|0|new'),
      ...PACKAGES.map((name) => device(`var/lib/${name}/full`, '1:7', '600|0:0|1|0|new')),
      `${EMPTY}  ./dev/console`,
    ],
  },
}

/** The console that each builder makes: its name, mode and time, and the mode that mknod(2) gave it. */
const CONSOLES = {
  tar: ['console', '600', '1580601600.000000000', '600'],
  cpio: ['console', '600', '1580601600.000000000', '600'],
  mmdebstrap: ['dev/console', '666', 'new', '644'],
  debootstrap: ['dev/console', '666', 'new', '644'],
} as const

/**
 * What no container gets: block devices, and a node 5:1 in a file system. One of ours is mounted on an empty file, so the tree
 * shows a node without links in the container, and that file outside of it.
 */
const differing = (where: 'inside' | 'outside'): Record<string, Difference> =>
  Object.fromEntries(
    Object.entries(CONSOLES).map(([builder, [name, mode, time, made]]) => {
      const file = [`./${name}|regular empty file|0:0|${made}|0:0|1|0|new`, `${EMPTY}  ./${name}`]
      const ours = where === 'inside' ? [device(name, '5:1', `${mode}|0:0|0|0|${time}`)] : file
      const disk = builder === 'tar' || builder === 'cpio' ? [DISK] : []
      return [builder, { native: [device(name, '5:1', `${mode}|0:0|1|0|${time}`), ...disk], ours }]
    }),
  )

describe.skipIf(cannot)(withReason('builders', cannot), { timeout: TIMEOUT }, () => {
  let native: string
  beforeAll(() => {
    native = onTmpfs(buildsAndLists())
  }, TIMEOUT)

  test('a directory of the host, with the ids of the container', () => {
    contained([], `cd /out; ${builds()}`)
    expect(compare(native, must('sh', ['-c', `cd ${work}/closed/out && ${lists()}`]))).toEqual(differing('outside'))
  })

  test('a tmpfs that is served, which can be removed and unmounted then', () => {
    const ours = contained(
      [],
      `mount -t tmpfs none /mnt && mkdir /mnt/b && cd /mnt/b && ${buildsAndLists()}; cd /; umount /mnt/b/*/console /mnt/b/*/dev/console; rm -rf /mnt/b; umount /mnt && echo gone`,
    )
    expect(compare(native, ours)).toEqual(differing('inside'))
    expect(ours).toContain('\ngone\n')
  })

  /** Where devices do not open, packages set up less: for which see docs/guide/builders.md. */
  test.each([
    { nodev: true, by: BUILDERS },
    { nodev: false, by: builders },
  ])('an ext4 image, mount.nodev=$nodev, and a copy of it by dd', ({ nodev, by }) => {
    const [ours, theirs] = [image(), image()]
    const copies = `dd if=${ours} of=/out/copy-${nodev} bs=1M status=none && echo copied`
    const options = ['-c', `mount.nodev=${nodev}`, '--device', ours]
    expect(contained(options, `${inImage(ours, '', by)} && ${copies}`)).toContain('copied')
    must('unshare', ['--mount', 'sh', '-c', inImage(theirs, nodev ? '-o nodev' : '', by)])
    const natively = ofImage(theirs, by)
    // mmdebstrap makes no devices where they do not open.
    const { mmdebstrap, ...others } = differing('outside')
    const expected = nodev ? others : { ...others, mmdebstrap }
    expect(compare(natively, ofImage(ours, by))).toEqual(expected)
    expect(compare(natively, ofImage(`${work}/closed/out/copy-${nodev}`, by))).toEqual(expected)
  })

  test('an overlay of the host', () => {
    const layers = ['lower', 'upper', 'work', 'merged'].map((name) => join(work, name))
    for (const layer of layers) mkdirSync(layer)
    const [lower, upper, workdir, merged] = layers
    const first = contained([], "awk '{ print $2 }' /proc/self/uid_map").trim()
    must('chown', [`${first}:${first}`, lower!, upper!])
    must('mount', ['-t', 'overlay', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${workdir}`, 'none', merged!])
    try {
      const ours = contained(['--bind', `${merged}:/merged`], `cd /merged && ${buildsAndLists()}`)
      const natively = onTmpfs(onOverlay())
      expect(compare(natively, ours)).toEqual(differing('inside'))
    } finally {
      must('umount', [merged!])
    }
  })

  /** Builds in podman's root. @returns what that has then, and what the command printed */
  async function inPodman(
    mountopt: string,
    more: readonly string[],
    then = '',
  ): Promise<Done & { readonly ours: string }> {
    const machine = new Machine()
    rmSync(join(machine.rootfs, 'bin'), { recursive: true })
    for (const name of ['usr', 'out', 'var']) mkdirSync(join(machine.rootfs, name))
    for (const name of ['bin', 'lib', 'lib64', 'sbin']) symlinkSync(`usr/${name}`, join(machine.rootfs, name))
    await machine.serve()
    const podman = await Podman.start(machine, [
      '--storage-driver=overlay',
      `--storage-opt=overlay.mountopt=${mountopt}`,
    ])
    try {
      const profile = await writeProfile(machine, 'build.json', [
        ...[...MKNOD, 'mount', 'mount.allowed=tmpfs'].flatMap((key) => ['-c', key]),
        '--runtime',
        'podman',
      ])
      const binds = ['/usr', '/etc', '/var/lib/dpkg', input].flatMap((path) => ['--volume', `${path}:${path}:ro`])
      const options = [
        '--name=builder',
        `--hostname=${hostname()}`,
        '--pids-limit=0',
        '--network=none',
        '--userns=auto:size=65536',
        `--security-opt=seccomp=${profile}`,
        '--cap-add=MKNOD,SYS_ADMIN',
        ...more,
      ]
      const script = `export PATH=/usr/sbin:/usr/bin; cd /out; ${builds(BUILDERS)}\n${then}`
      const done = await podman.run('run', ...options, ...binds, 'test', 'bash', '-c', script)
      const { stdout: upper } = await podman.run('inspect', '--format={{.GraphDriver.Data.UpperDir}}', 'builder')
      const look = `${asMapped(upper.trim())}; cd /mnt/out; ${lists(BUILDERS)}`
      return { ...done, ours: must('unshare', ['--mount', 'sh', '-c', look]) }
    } finally {
      await podman.close()
      await machine.close()
    }
  }

  test("podman's root, which it mounts nodev, and a tmpfs there", async () => {
    const onItsTmpfs = `mount -t tmpfs none /root && mkdir /root/b && cd /root/b && ${buildsAndLists(BUILDERS)}`
    const { ours, stdout, stderr } = await inPodman('nodev', [], onItsTmpfs)
    expect(stderr).toMatch(/cannot unlink [^\n]*test-dev-null: Device or resource busy/)
    const { mmdebstrap, ...others } = compare(onTmpfs(onOverlay(BUILDERS)), ours)
    expect(mmdebstrap!.ours).toEqual([
      '.|directory|0:0|755|0:0|-|-|new',
      './test-dev-null|character special file|1:3|644|0:0|1|0|new',
    ])
    expect(others).toEqual(IN_PODMAN)
    expect(compare(onTmpfs(buildsAndLists(BUILDERS)), stdout)).toEqual(differing('inside'))
  })

  test("podman's root without nodev, as in a build: equal", async () => {
    const { ours } = await inPodman('', ['--device-cgroup-rule=c 5:2 rwm'])
    const expected = differing('outside')
    const [theirs, own] = IN_PODMAN_OPAQUE
    const tar = { native: [...expected.tar!.native, theirs], ours: [...expected.tar!.ours, own] }
    expect(compare(onTmpfs(onOverlay(BUILDERS)), ours)).toEqual({ ...expected, tar })
  })
})
