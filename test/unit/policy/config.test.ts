import { expect, test } from 'vitest'
import { parseConfig } from '../../../src/policy/config.ts'

const P = 'security.syscalls.intercept.'

test('parseConfig() of an empty file is the defaults', () => {
  expect(parseConfig('# nothing\nprofiles:\n  # later\n', 'x.yaml')).toEqual({
    default: [],
    profiles: new Map(),
    annotations: { profiles: new Set(), raise: new Set() },
    ceiling: new Map(),
    log: { level: 'info', arguments: 'all' },
    metrics: { container: false },
    limits: {},
    history: { size: 16 * 1024 ** 2, age: 30 * 86_400_000 },
    nri: { namespaces: new Map() },
    reload: 'auto',
  })
})

test('parseConfig() reads every section', () => {
  const text = `default:
  ${P}sysinfo: true
profiles:
  build:
    mknod: yes
    mknod.devices: [c:10:200, c:10:229]
    mount.fuse: { ext4: fuse2fs }
    sched_setscheduler.max_priority: 7
annotations:
  profiles: [build]
  raise: [mknod, ${P}mount]
ceiling: { mount.allowed: [ext4, xfs], mknod: on }
log: { level: debug }
metrics: { container: true }
limits: { callsPerContainer: 64 }
history: { path: /srv/history, size: 2048k, age: 1d }
nri: { socket: /run/nri/nri.sock, namespaces: { apps: [build], '*': [] } }
reload: manual
`
  const place = (line: number, column = 5) => ({ file: 'x.yaml', line, column })
  expect(parseConfig(text, 'x.yaml')).toEqual({
    default: [[`${P}sysinfo`, 'true', { kind: 'configuration' }, place(2, 3)]],
    profiles: new Map([
      [
        'build',
        [
          ['mknod', 'yes', { kind: 'profile', name: 'build' }, place(5)],
          ['mknod.devices', 'c:10:200,c:10:229', { kind: 'profile', name: 'build' }, place(6)],
          ['mount.fuse', 'ext4=fuse2fs', { kind: 'profile', name: 'build' }, place(7)],
          ['sched_setscheduler.max_priority', '7', { kind: 'profile', name: 'build' }, place(8)],
        ],
      ],
    ]),
    annotations: { profiles: new Set(['build']), raise: new Set(['mknod', 'mount']) },
    ceiling: new Map([
      ['mount.allowed', 'ext4,xfs'],
      ['mknod', 'true'],
    ]),
    log: { level: 'debug', arguments: 'all' },
    metrics: { container: true },
    limits: { callsPerContainer: 64 },
    history: { path: '/srv/history', size: 2_097_152, age: 86_400_000 },
    nri: {
      socket: '/run/nri/nri.sock',
      namespaces: new Map([
        ['apps', ['build']],
        ['*', []],
      ]),
    },
    reload: 'manual',
  })
})

test.each([
  ['profile:\n  a: {}', 'unknown key "profile" at line 1, column 1 (did you mean "profiles"?)'],
  ['default:\n  mknod: true\n  moutn: true', `unknown key "${P}moutn" at line 3, column 3 (did you mean "${P}mount"?)`],
  [
    'profiles:\n  a:\n    mknod: maybe',
    `${P}mknod is "maybe" at line 3, column 5: not a boolean, allowed is true, 1, yes, on, false, 0, no or off`,
  ],
  ['reload: never', 'reload is "never" at line 1, column 1, allowed is auto or manual'],
  ['default: [mknod]', 'default is a list at line 1, column 1, allowed is a map of keys'],
  [
    'profiles: {constructor: {mknod: true}}',
    'profiles is a map at line 1, column 1, allowed is one without __proto__, prototype, constructor',
  ],
  [
    'default: {__proto__: x}',
    'default is a map at line 1, column 1, allowed is one without __proto__, prototype, constructor',
  ],
  [
    `default: &a [${'x,'.repeat(99)}]\nprofiles: [${'*a,'.repeat(99)}]\nlog: [${'*a,'.repeat(99)}]`,
    'Excessive alias count indicates a resource exhaustion attack; write out what the aliases stand for',
  ],
  ['log: {level: loud}', 'log.level is "loud" at line 1, column 7, allowed is debug, info, notice, warn, error'],
  ['\nlimits:\n  callsPerContainer: 0', 'limits.callsPerContainer is 0 at line 3, column 3, allowed is at least 1'],
  [
    'limits:\n  callsPerContainer: 1.5',
    'limits.callsPerContainer is 1.5 at line 2, column 3, allowed is a whole number from 1',
  ],
  ['limits:\n  connections: 4096', 'limits.connections is 4096 at line 2, column 3, allowed is at most 2048'],
  ['limits:\n  calls: 4', 'limits.calls is 4 at line 2, column 3, allowed is at least 8'],
  ['limits:\n  call: 1', 'unknown key "limits.call" at line 2, column 3 (did you mean "calls"?)'],
  [
    'limits: {foo: 1}',
    'unknown key "limits.foo" at line 1, column 10, allowed is callsPerContainer, calls, listenersPerContainer, connections, records',
  ],
  ['annotations: {profiles: [elsewhere]}', 'unknown profile "elsewhere" at line 1, column 26; name one of "profiles"'],
  ['profiles: {build: }', 'profiles.build is empty at line 1, column 12, allowed is a map of keys'],
  [
    'default: {mknod: [true]}',
    `${P}mknod is a list at line 1, column 11, allowed is true, 1, yes, on, false, 0, no or off`,
  ],
  [
    'default: {sched_setscheduler.max_priority: {a: 5}}',
    `${P}sched_setscheduler.max_priority is a map at line 1, column 11, allowed is a whole number from 1 to 99`,
  ],
  [
    `profiles:\n  a:\n    mknod: true\n    ${P}mknod: false`,
    `${P}mknod is given twice, as "true" and "false" at line 4, column 5; give it once`,
  ],
  [
    'default: {mount.allowed: [ext4, proc]}',
    `${P}mount.allowed is "ext4,proc" at line 1, column 11: "proc" is mounted by the kernel in any user namespace: leave it out, allowed is a list of file systems such as ext4,xfs`,
  ],
  [
    'default: {mount.fuse: {ext4: ../../x}}',
    `${P}mount.fuse is "ext4=../../x" at line 1, column 11: "../../x" is neither a name, found by PATH, nor an absolute path, allowed is a list of FILESYSTEM=PROGRAM such as ext4=fuse2fs,squashfs=squashfuse`,
  ],
  [
    'profiles: {build: {}}\nannotations:\n  profiles:\n    - biuld',
    'unknown profile "biuld" at line 4, column 7 (did you mean "build"?)',
  ],
  ['annotations: {raise: [mknot]}', `unknown key "${P}mknot" at line 1, column 23 (did you mean "${P}mknod"?)`],
  [
    '- mknod',
    'the file is a list, allowed is a map of default, profiles, annotations, ceiling, log, metrics, limits, history, nri, reload',
  ],
  [
    'history: { path: here }',
    'history.path is "here" at line 1, column 12, allowed is the absolute path of a directory, or none',
  ],
  [
    'nri: { socket: here }',
    'nri.socket is "here" at line 1, column 8, allowed is the absolute path of a socket, or none',
  ],
  [
    'profiles: { vpn: {} }\nnri: { namespaces: { apps: [vpm] } }',
    'unknown profile "vpm" at line 2, column 29 (did you mean "vpn"?)',
  ],
  ['history: { size: 1t }', 'history.size is "1t" at line 1, column 12, allowed is a size from 1m to 256m'],
  ['history: { age: 1 }', 'history.age is 1 at line 1, column 12, allowed is a number of days from 1d to 3650d'],
  ['default:\n  mknod: true\n  mknod: false', 'Map keys must be unique at line 3, column 3; correct the YAML there'],
])('parseConfig(%j) is an error that teaches', (text, message) => {
  expect(() => parseConfig(text, 'x.yaml')).toThrow(
    expect.objectContaining({ message: `Cannot read policy "x.yaml": ${message}` }),
  )
})

test('parseConfig() finds what only contradicts together with the default', () => {
  const text = 'default: {mount.allowed: ext4}\nprofiles: {a: {mount.fuse: ext4=fuse2fs}}'
  expect(() => parseConfig(text, 'x.yaml')).toThrow('the file system "ext4" is in both')
})

test('parseConfig() tells all that is wrong at once, each thing with its place, in words', () => {
  const text = `defautl: {}
default:
  moutn: true
  mknod: maybe
profiles:
  empty:
  build: { mknod: [true], sysinfo: maybe, mount.allowed: ext4, mount.fuse: ext4=fuse2fs }
annotations: { profiles: [biuld, empty], raise: [mknot] }
ceiling: { sysinfo: perhaps }
limits: { calls: 4, foo: 1, bar: 2 }
reload: never
`
  const places = [
    ...['1, column 1', '3, column 3', '4, column 3', '6, column 3', '7, column 12', '7, column 27', '8, column 27'],
    ...['8, column 50', '9, column 12', '10, column 11', '10, column 21', '10, column 29', '11, column 1'],
  ]
  const told = messageOf(text)
  expect(told).toMatch(/^Cannot read policy "x.yaml": 14 errors: /)
  expect(told.match(/(?<=at line )\d+, column \d+/g)).toEqual(places)
  expect(told).toContain('the file system "ext4" is in both')
  expect(messageOf('default: [\nprofiles: ]\n}')).toMatch(
    /3 errors: .* at line 2, column 1;.*; also .* at line 3, column 1;/,
  )
})

test('parseConfig() of more errors than anybody reads tells the first twenty, in words', () => {
  const text = `default:\n${Array.from({ length: 30 }, (_, index) => `  x${index}: 1\n`).join('')}`
  expect(messageOf(text)).toMatch(/: 30 errors: .*"[^"]*x19" at line 21, column 3; [^;]*; and 10 more$/)
})

function messageOf(text: string): string {
  try {
    parseConfig(text, 'x.yaml')
  } catch (error) {
    return (error as Error).message
  }
  return ''
}

test('a file says by which version of YAML it is read', () => {
  const { profiles } = parseConfig(
    '%YAML 1.1\n---\nprofiles:\n  a: &a { mknod: yes }\n  b: { <<: *a, setxattr: on }\n',
    'x',
  )
  expect(profiles.get('b')!.map(([key, value]) => `${key}=${value}`)).toEqual(['mknod=true', 'setxattr=true'])
})
