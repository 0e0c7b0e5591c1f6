import { describe, expect, test } from 'vitest'
import { type Config, parseConfig } from '../../../src/policy/config.ts'
import { formatOrigin } from '../../../src/policy/key-value-lines.ts'
import { type PolicySources, resolve as resolveHere } from '../../../src/policy/resolve.ts'

/** On a host where nobody has a device. */
const resolve = (...given: [config: Config, from: PolicySources]) => resolveHere(...given, () => [])

const P = 'security.syscalls.intercept.'
const config = parseConfig(
  `default: { sysinfo: true }
profiles:
  build: { mknod: true, mknod.devices: c:10:200 }
  mounts: { mount: true, mount.fuse: ext4=fuse2fs }
annotations: { profiles: [mounts], raise: [setxattr] }
`,
  'x.yaml',
)

/** The settings that are not defaults, as `short key=value (origin)`. */
function given(from: PolicySources): readonly string[] {
  const { settings } = resolve(config, from)
  const own = [...settings].filter(([, { origin }]) => origin.kind !== 'default')
  return own.map(([key, { text, origin }]) => `${key}=${text} (${formatOrigin(origin)})`)
}

describe('resolve() lets the stronger source win', () => {
  test.each<{ what: string; from: PolicySources; settings: string[] }>([
    { what: 'the configuration alone', from: {}, settings: ['sysinfo=true (configuration)'] },
    {
      what: 'a profile named by the metadata',
      from: { metadata: 'profile=build\n' },
      settings: [
        'mknod=true (profile build)',
        'mknod.devices=c:10:200 (profile build)',
        'sysinfo=true (configuration)',
      ],
    },
    {
      what: 'keys of the metadata over its profile and the default',
      from: { metadata: 'sysinfo=no\nprofile=build\nmknod.devices=c:10:229\n' },
      settings: ['mknod=true (profile build)', 'mknod.devices=c:10:229 (metadata)', 'sysinfo=false (metadata)'],
    },
    {
      what: 'an annotation that lowers',
      from: { metadata: 'profile=build', annotations: { [`${P}mknod`]: 'false', [`${P}mknod.devices`]: '' } },
      settings: ['mknod=false (annotation)', 'mknod.devices= (annotation)', 'sysinfo=true (configuration)'],
    },
    {
      what: 'an annotation that may raise',
      from: { annotations: { [`${P}setxattr`]: 'true' } },
      settings: ['setxattr=true (annotation)', 'sysinfo=true (configuration)'],
    },
    {
      what: 'a listed profile chosen by an annotation, under the keys of the metadata',
      from: { metadata: 'profile=build\nbpf=true', annotations: { [`${P}profile`]: 'mounts' } },
      settings: [
        'bpf=true (metadata)',
        'mount=true (profile mounts)',
        'mount.fuse=ext4=fuse2fs (profile mounts)',
        'sysinfo=true (configuration)',
      ],
    },
  ])('$what', ({ from, settings }) => {
    expect(given(from)).toEqual(settings)
    expect(resolve(config, from).notes).toEqual([])
  })
})

describe('resolve() lowers a key whose annotation cannot be read', () => {
  const all = parseConfig(
    `default: { mknod: true, mknod.devices: c:10:200, mount: true, mount.fuse: ext4=fuse2fs, mount.nodev: false, sched_setscheduler.max_priority: 60, sysinfo: true }
annotations: { raise: [sysinfo] }
`,
    'x.yaml',
  )
  const wrong = [
    ['mknod', 'maybe', 'false', 'not a boolean'],
    ['sysinfo', 'ture', 'false', 'not a boolean'],
    ['mknod.devices', 'c:10:200,c:10', '', '"c:10" is no device'],
    ['mount.fuse', 'ext4', '', '"ext4" does not name a program'],
    ['mount.nodev', 'flase', 'true', 'not a boolean'],
    ['sched_setscheduler.max_priority', 'low', '1', 'out of range'],
  ] as const
  test.each(wrong)('%s=%s is %j', (key, value, text) => {
    const { settings, notes, lowered } = resolve(all, { annotations: { [P + key]: value } })
    expect(settings.get(key)).toEqual({ text, origin: { kind: 'unreadable' } })
    expect(lowered).toMatchObject([{ key: P + key, value }])
    expect(notes).toEqual([])
  })

  test.each(wrong)('%s=%s is %j, and the reason is told, in words', (key, value, _, why) => {
    const { lowered } = resolve(all, { annotations: { [P + key]: value } })
    expect(lowered).toEqual([{ key: P + key, value, why: expect.stringContaining(why) }])
  })

  test('so that the call is off', () => {
    expect(resolve(all, { annotations: { [`${P}mknod`]: 'maybe' } }).policy.mknod).toBeUndefined()
  })
})

describe('resolve() ignores an annotation with a note', () => {
  test.each([
    ['mknod', 'true', 'an annotation may only lower this key, which is "false"'],
    ['mount.nodev', 'false', 'an annotation may only lower this key, which is "true"'],
    ['sched_setscheduler.max_priority', '99', 'an annotation may only lower this key, which is "49"'],
    ['sysinfos', 'true', `Cannot read policy: unknown key "${P}sysinfos" (did you mean "${P}sysinfo"?)`],
    ['profile', 'build', 'annotations may choose among the profiles: mounts'],
  ])('%s=%s, in words', (key, value, why) => {
    const { settings, notes } = resolve(config, { annotations: { [P + key]: value } })
    expect(notes).toEqual([{ key: P + key, value, why }])
    expect(settings).toEqual(resolve(config, {}).settings)
  })

  test('that contradicts the metadata, and keeps the rest, in words', () => {
    const from = {
      metadata: 'mount.allowed=ext4',
      annotations: { [`${P}profile`]: 'mounts', [`${P}sysinfo`]: 'false', 'io.kubernetes.pod': 'x' },
    }
    const { policy, notes } = resolve(config, from)
    expect(notes).toMatchObject([{ key: `${P}profile`, why: expect.stringContaining('"ext4" is in both') }])
    expect(policy).toEqual({})
  })
})

const OF = "of the container's metadata"

test.each([
  ['profile=biuld', `Cannot read policy: unknown profile "biuld" at line 1 ${OF} (did you mean "build"?)`],
  [
    '# x\nmknod=perhaps',
    `Cannot read policy: ${P}mknod is "perhaps" at line 2 ${OF}: not a boolean, allowed is true, 1, yes, on, false, 0, no or off`,
  ],
])('resolve() throws for the metadata %j, which was meant to hold', (metadata, message) => {
  expect(() => resolve(config, { metadata })).toThrow(expect.objectContaining({ message: message }))
})
