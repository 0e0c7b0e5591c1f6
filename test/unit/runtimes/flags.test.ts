import { describe, expect, test } from 'vitest'
import { type Document, parse } from 'yaml'
import { makedev } from '../../../src/abi/stat.ts'
import { type FlagsOptions, placeOf, profileName } from '../../../src/cli/flags-profile.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { lxcfsFiles, type Wanted } from '../../../src/runtimes/flags.ts'
import { containerd } from '../../../src/runtimes/known/containerd.ts'
import { docker } from '../../../src/runtimes/known/docker.ts'
import { kubernetes } from '../../../src/runtimes/known/kubernetes.ts'
import { lxc } from '../../../src/runtimes/known/lxc.ts'
import { nodevStorage, podman, podmanTools, readerByRunc } from '../../../src/runtimes/known/podman.ts'

const told = { podman, docker, lxc, containerd, kubernetes }
type Told = keyof typeof told

const P = 'security.syscalls.intercept.'
const bare: Wanted = {
  caps: [],
  profile: '/etc/intercede/a.json',
  metadata: [`${P}sysinfo=true`],
  annotations: [],
  firstId: 1,
  ...{ prepared: false, user: false, fuse: false, onlyKeys: true, byRunc: false, devices: [], files: [] },
}
const full: Wanted = {
  ...bare,
  caps: ['MKNOD', 'SYS_ADMIN'],
  metadata: [`${P}mknod=true`, `${P}mknod.devices=c:10:200`],
  annotations: [[`${P}mknod.devices`, '']],
  firstId: 300_000,
}

test.each<{ runtime: Told; wanted: Wanted; lines: string[] }>([
  {
    runtime: 'podman',
    wanted: bare,
    lines: ['--interactive', '--userns=auto', '--security-opt=seccomp=/etc/intercede/a.json'],
  },
  {
    runtime: 'podman',
    wanted: full,
    lines: [
      '--interactive',
      '--userns=auto',
      '--cap-add=MKNOD',
      '--cap-add=SYS_ADMIN',
      '--security-opt=seccomp=/etc/intercede/a.json',
      `--annotation=${P}mknod.devices=`,
    ],
  },
  {
    runtime: 'podman',
    wanted: { ...bare, caps: ['SYS_ADMIN'], user: true, fuse: true },
    lines: ['--cap-add=SYS_ADMIN', '--device=/dev/fuse', '--security-opt=seccomp=/etc/intercede/a.json'],
  },
  { runtime: 'docker', wanted: bare, lines: ['--security-opt=seccomp=/etc/intercede/a.json'] },
  {
    runtime: 'containerd',
    wanted: full,
    lines: [
      '--uidmap=0:300000:65536',
      '--gidmap=0:300000:65536',
      '--cap-add=CAP_MKNOD',
      '--cap-add=CAP_SYS_ADMIN',
      '--seccomp',
      '--seccomp-profile=/etc/intercede/a.json',
      `--annotation=${P}mknod.devices=`,
    ],
  },
  {
    runtime: 'lxc',
    wanted: { ...full, annotations: [], listener: '/run/other.sock' },
    lines: [
      'lxc.idmap = u 0 300000 65536',
      'lxc.idmap = g 0 300000 65536',
      'lxc.seccomp.profile = /etc/intercede/a.json',
      'lxc.seccomp.notify.proxy = unix:/run/other.sock',
      `lxc.seccomp.notify.cookie = ${P}mknod=true;${P}mknod.devices=c:10:200`,
    ],
  },
])('flags() of $runtime with $wanted.caps', ({ runtime, wanted, lines }) => {
  expect(told[runtime].instructions.flags(wanted).lines).toEqual(lines)
})

describe('flags() of kubernetes', () => {
  const pod = (wanted: Wanted): Document => parse(kubernetes.instructions.flags(wanted).lines.join('\n'))

  test('gives the fields of a Pod, with annotations as text', () => {
    expect(pod(full)).toEqual({
      metadata: { annotations: { [`${P}mknod.devices`]: '' } },
      spec: {
        hostUsers: false,
        containers: [
          {
            name: 'NAME',
            securityContext: {
              capabilities: { add: ['MKNOD', 'SYS_ADMIN'] },
              seccompProfile: { type: 'Localhost', localhostProfile: 'intercede/a.json' },
            },
          },
        ],
      },
    })
  })

  test('says no more than is needed', () => {
    expect(pod(bare)).toMatchObject({
      spec: { containers: [{ securityContext: expect.not.objectContaining({ capabilities: expect.anything() }) }] },
    })
    expect(pod(bare)).not.toHaveProperty('metadata')
  })
})

test.each(['podman', 'docker'] as const)(
  'flags() of %s has nothing to add on a machine that is prepared',
  (runtime) => {
    expect(told[runtime].instructions.flags({ ...full, prepared: true }).besides).toEqual([])
  },
)

test.each<[Told, Wanted, RegExp]>([
  ['podman', bare, /containers.*\/etc\/subuid/],
  ['docker', bare, /userns-remap/],
  ['kubernetes', bare, /DaemonSet/],
  ['kubernetes', full, /containerd where its pod_annotations list them; CRI-O passes them on by itself/],
  [
    'kubernetes',
    full,
    /add the line "a mknod mknod.devices=c:10:200" to the profiles in deploy.*, from which the DaemonSet/,
  ],
  ['lxc', full, /lxc\.cap\.drop.*mknod, sys_admin/],
  ['kubernetes', { ...bare, fuse: true }, /device plugin/],
])('flags() of %s says what its lines cannot', (runtime, wanted, says) => {
  expect(told[runtime].instructions.flags(wanted).besides.join('\n')).toMatch(says)
})

/** The file of Debian's package containers-storage, without its comments. */
const DEBIAN = `[storage]
driver = "overlay"
[storage.options]
additionalimagestores = [
]
[storage.options.overlay]
# size = ""
#mountopt = "x"
mountopt = "nodev"
`

describe('lxcfsFiles() and what flags() makes of it', () => {
  const at = (point: string): string => `proc /proc proc rw 0 0\nlxcfs ${point} fuse.lxcfs rw,user_id=0 0 0\n`
  const files = lxcfsFiles(at('/var/lib/lxcfs'))!

  test('finds the mount point, if a command line can name it', () => {
    expect(files).toHaveLength(8)
    expect(files).toContainEqual({ source: '/var/lib/lxcfs/proc/meminfo', target: '/proc/meminfo' })
    expect(lxcfsFiles(at('/a\\040b'))).toBeUndefined()
    const users = 'lxcfs /home/me/m fuse.lxcfs rw,nosuid,nodev,relatime,user_id=65534,group_id=65534 0 0\n'
    expect(lxcfsFiles(users)).toBeUndefined()
    expect(lxcfsFiles(`${users}${at('/var/lib/lxcfs')}`)).toEqual(files)
    expect(lxcfsFiles('x /y fuse.other rw 0 0\n/z fuse.lxcfs /x tmpfs 0 0\n')).toBeUndefined()
  })

  test.each([
    ['podman', '--volume=/var/lib/lxcfs/proc/stat:/proc/stat:ro'],
    ['docker', '--volume=/var/lib/lxcfs/proc/stat:/proc/stat:ro'],
    ['containerd', '--mount=type=bind,src=/var/lib/lxcfs/proc/stat,dst=/proc/stat,options=rbind:ro'],
  ] as const)('%s', (runtime, line) => {
    expect(told[runtime].instructions.flags({ ...bare, files }).lines).toContain(line)
  })

  test.each(podmanTools)('$name', ({ instructions }) => {
    expect(instructions.flags({ ...bare, files }).lines.join('\n')).toContain('/var/lib/lxcfs/proc/stat:/proc/stat:ro')
  })
})

describe('nodevStorage() and what flags() makes of it', () => {
  const of = (text: string): ReturnType<typeof nodevStorage> =>
    nodevStorage((path) => (path.startsWith('/usr/share/') ? text : ''))
  const [build, , compose] = podmanTools

  test.each([
    { text: DEBIAN, is: { without: '', isAlone: true } },
    { text: DEBIAN.replace('nodev', 'nodev,metacopy=on'), is: { without: 'metacopy=on', isAlone: true } },
    { text: DEBIAN.replace('# size = ""', 'size = "1g"'), is: { without: '', isAlone: false } },
    { text: DEBIAN.replace('[\n]', '["/images"]'), is: { without: '', isAlone: false } },
    { text: DEBIAN.replace('nodev', 'metacopy=on'), is: undefined },
    { text: '', is: undefined },
  ])('$is', ({ text, is }) => {
    expect(of(text)).toEqual(is)
  })

  test('the file of the administrator counts', () => {
    expect(nodevStorage((path) => (path.startsWith('/etc/') ? '[storage]\n' : DEBIAN))).toBeUndefined()
  })

  test('an option for builds, or advice if it would replace others', () => {
    const flags = (text: string) => build!.instructions.flags({ ...full, prepared: true, nodev: of(text) })
    expect(flags(DEBIAN)).toEqual({
      lines: [
        ...['--isolation=oci', '--userns=auto:size=65536', '--squash-all', '--cap-add=MKNOD', '--cap-add=SYS_ADMIN'],
        ...['--security-opt=seccomp=/etc/intercede/a.json', '--storage-opt=overlay.mountopt='],
      ],
      besides: [],
    })
    const { lines, besides } = flags(`${DEBIAN}size = "1g"\n`)
    expect(lines.join()).not.toContain('--storage-opt')
    expect(besides).toEqual([expect.stringContaining('STORAGE_OPTS=overlay.mountopt= in')])
    expect(flags(`${DEBIAN}size = "1g"\n`.replace('nodev', 'a,nodev,b')).besides.join()).toContain('mountopt= in')
  })

  test('advice with device rules for podman run and compose, for which the option alone would open nodes of images', () => {
    const wanted = { ...full, prepared: true, devices: [makedev(10, 200)], nodev: of(DEBIAN) }
    const { lines, besides, advice } = podman.instructions.flags(wanted)
    expect([...lines, ...besides].join()).not.toContain('--storage-opt')
    expect(advice.join()).toContain("--storage-opt=overlay.mountopt= --device-cgroup-rule='c 10:200 rwm'")
    const service = parse(compose!.instructions.flags(wanted).lines.join('\n')).services.NAME
    expect(service).toMatchObject({ device_cgroup_rules: ['c 10:200 rwm'], annotations: { [`${P}mknod.devices`]: '' } })
  })
})

describe('readerByRunc() and what flags() makes of it', () => {
  const main = '/etc/containers/containers.conf'
  const both = (program: string): string => `/usr/bin/${program}`
  const by = (
    files: Readonly<Record<string, string>>,
    which: (program: string) => string | undefined = both,
  ): boolean =>
    readerByRunc(
      (path) => files[path] ?? '',
      () => Object.keys(files).flatMap((path) => path.split(`${main}.d/`)[1] ?? []),
      which,
    )?.program === 'runc'
  const naming = (name: string): string =>
    `[containers]\nruntime = "x"\n[engine]\n#runtime = "y"\nruntime = "${name}"\n`

  test.each([
    { is: false, files: {} },
    { is: true, files: { [main]: naming('runc') } },
    { is: true, files: { [main]: naming('/usr/sbin/runc') } },
    { is: false, files: { [main]: naming('crun') } },
    { is: false, files: { '/usr/share/containers/containers.conf': naming('runc'), [main]: naming('crun') } },
    { is: true, files: { [`${main}.d/b.conf`]: naming('runc'), [`${main}.d/a.conf`]: naming('crun') } },
    { is: false, files: { [`${main}.d/a.conf.old`]: naming('runc') } },
    { is: false, files: { [main]: '[containers]\nruntime = "runc"\n[engine.runtimes]\nruntime = "runc"\n' } },
  ])('$is of $files', ({ is, files }) => expect(by(files)).toBe(is))

  test('without a file that says so, runc is taken where it is alone', () => {
    expect(by({}, (program) => (program === 'runc' ? '/usr/sbin/runc' : undefined))).toBe(true)
    expect(by({}, () => undefined)).toBe(false)
  })

  test.each([{ name: 'podman', instructions: podman.instructions }, ...podmanTools])('$name', ({ instructions }) => {
    const { besides } = instructions.flags({ ...full, prepared: true, byRunc: true })
    expect(besides).toEqual([expect.stringMatching(/this profile is for crun.*runtime = "crun".*--runtime runc/)])
  })
})

describe('placeOf()', () => {
  const wanted = { metadata: [`${P}mknod=true`], reach: parsePolicy([['mknod', 'true']]) }
  const place = ({ base }: Pick<FlagsOptions, 'base'>, runtime: Told = 'podman'): string =>
    placeOf(wanted, { firstId: 1, ...(base === undefined ? {} : { base }) }, told[runtime].instructions).file

  test('is another file for another base: the file is the filter of all containers that name it', () => {
    const usual = place({})
    expect(usual).toBe('/etc/intercede/mknod.json')
    expect(place({ base: podman.instructions.base })).toBe(usual)
    const others = [{ base: false as const }, { base: '/x.json' }, { base: '/y.json' }].map((options) => place(options))
    expect(new Set([usual, ...others]).size).toBe(4)
    for (const other of others) expect(other).toMatch(/^\/etc\/intercede\/mknod-[0-9a-f]{8}\.json$/)
  })

  test('is not the file of the ConfigMap for another base', () => {
    expect(place({}, 'kubernetes')).toMatch(/\/mknod\.json$/)
    expect(place({ base: 'cri-o' }, 'kubernetes')).toMatch(/\/mknod-[0-9a-f]{8}\.json$/)
  })

  test('is the same file with any base where no base is usual', () => {
    expect(place({ base: '/x.json' }, 'docker')).toBe(place({}, 'docker'))
  })
})

describe('profileName()', () => {
  const key = (name: string): string => `security.syscalls.intercept.${name}`
  const nameOf = (...keys: readonly string[]): string => profileName(['mknod'], keys.map(key))

  test('says which calls are turned on', () => {
    const keys = ['mknod=true', 'sched_setscheduler=true'].map(key)
    expect(profileName(['mknod', 'schedSetscheduler'], keys)).toBe('mknod-schedsetscheduler')
  })

  test('differs for other values and another socket: a file is the policy of all containers that name it', () => {
    const names = [
      nameOf('mknod=true'),
      nameOf('mknod=true', 'mknod.devices=c:10:200'),
      nameOf('mknod=true', 'mknod.devices=c:10:229'),
      nameOf('mknod=true', 'sysinfo=false'),
      profileName(['mknod'], [key('mknod=true')], { listener: '/run/other.sock' }),
    ]
    expect(new Set(names).size).toBe(names.length)
    expect(nameOf('mknod.devices=c:10:200', 'mknod=true')).toBe(names[1])
    for (const name of names) expect(name).toMatch(/^mknod(-[0-9a-f]{8})?$/)
  })

  test('differs where a call is only trapped, and where the file would be that of another runtime', () => {
    const on = ['sysinfo=true', 'mknod=true'].map(key)
    expect(profileName(['sysinfo', 'mknod'], on)).toBe('sysinfo-mknod')
    for (const word of ['trap mknod=true', `trap ${key('mknod=true')}`])
      expect(profileName(['sysinfo', 'mknod'], [on[0]!, word])).toMatch(/^sysinfo-mknod-[0-9a-f]{8}$/)
    for (const profile of ['build.docker', 'build.containerd'])
      expect(profileName(['mknod'], [`profile=${profile}`], { profile })).toMatch(/-[0-9a-f]{8}$/)
  })

  test('of a profile of the configuration is its name, and has a hash for what else is asked for', () => {
    const named = (profile: string, ...words: readonly string[]): string =>
      profileName(['mknod'], [`profile=${profile}`, ...words], { profile })
    expect(named('vpn')).toBe('profile-vpn')
    expect(named('../../x')).toMatch(/^profile-[0-9a-f]{8}$/)
    expect(named('two words')).toMatch(/^profile-[0-9a-f]{8}$/)
    expect(named('two words')).not.toBe(named('2 words'))
    expect(named('vpn', 'trap sysinfo')).toMatch(/^profile-vpn-[0-9a-f]{8}$/)
    expect(named('vpn', 'trap sysinfo')).not.toBe(named('vpn', key('sysinfo=true')))
  })
})
