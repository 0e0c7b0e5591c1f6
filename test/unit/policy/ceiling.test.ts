import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../../src/policy/config.ts'
import { fullName } from '../../../src/policy/key.ts'
import { formatOrigin, type Origin } from '../../../src/policy/key-value-lines.ts'
import { type KeyName, keyNames } from '../../../src/policy/keys.ts'
import { type PolicySources, resolve as resolveHere } from '../../../src/policy/resolve.ts'
import { aboveCeiling, clamped } from '../../../src/policy/settings.ts'

const P = 'security.syscalls.intercept.'
const CEILING = 'ceiling: { mknod: false, mount.allowed: "ext4,xfs", mount.fuse: ext4=fuse2fs, mount.nodev: true }'

/** On a host where nobody has a device. */
const resolve = (text: string, from: PolicySources) => resolveHere(parseConfig(text, 'x.yaml'), from, () => [])

describe('a ceiling bounds a value from every source', () => {
  test.each<{ what: string; text: string; from: PolicySources; origin: Origin }>([
    { what: 'the default', text: 'default: { mknod: true }', from: {}, origin: { kind: 'configuration' } },
    {
      what: 'a profile',
      text: 'profiles: { a: { mknod: true } }',
      from: { metadata: 'profile=a' },
      origin: { kind: 'profile', name: 'a' },
    },
    { what: 'the metadata', text: '', from: { metadata: 'mknod' }, origin: { kind: 'metadata' } },
    {
      what: 'an annotation',
      text: 'annotations: { raise: [mknod] }',
      from: { annotations: { [`${P}mknod`]: 'true' } },
      origin: { kind: 'annotation' },
    },
    { what: 'what was set', text: '', from: { set: [['mknod', 'true', { kind: 'set' }]] }, origin: { kind: 'set' } },
  ])('$what', ({ text, from, origin }) => {
    expect(resolve(text, from).policy).toHaveProperty('mknod')
    const { policy, settings } = resolve(`${CEILING}\n${text}`, from)
    expect(policy).not.toHaveProperty('mknod')
    expect(settings.get('mknod')).toMatchObject({ text: 'false', origin, ceiling: 'false', asked: 'true' })
    expect(clamped(settings)).toEqual([
      `${P}mknod: ${formatOrigin(origin)} asks for "true", and its ceiling is "false", so "false" holds; lower the one, or raise the other in the configuration`,
    ])
  })
})

test('of lists both permit what is in both, and what lies below a ceiling stays', () => {
  const { settings } = resolve(CEILING, {
    metadata: 'mount=true\nmount.allowed=xfs,btrfs\nmount.fuse=squashfs=squashfuse\nmount.nodev=false\nsysinfo=true',
  })
  expect(settings.get('mount.allowed')).toMatchObject({ text: 'xfs', asked: 'xfs,btrfs' })
  expect(settings.get('mount.fuse')).toMatchObject({ text: '', asked: 'squashfs=squashfuse' })
  expect(settings.get('mount.nodev')).toMatchObject({ text: 'true', asked: 'false' })
  expect(settings.get('mount')).toEqual({ text: 'true', origin: { kind: 'metadata' } })
  expect(settings.get('sysinfo')).toEqual({ text: 'true', origin: { kind: 'metadata' } })
})

test('what was set holds over metadata and annotations', () => {
  const from = {
    metadata: 'mknod',
    annotations: { [`${P}mknod`]: 'false' },
    set: [['mknod', 'true', { kind: 'set' }]] as const,
  }
  const instead = { text: 'false', origin: { kind: 'annotation' } }
  expect(resolve('', from).settings.get('mknod')).toEqual({ text: 'true', origin: { kind: 'set' }, instead })
})

test('a ceiling also bounds what would hold without what was set', () => {
  const from = { metadata: 'mount.allowed=ext4,btrfs', set: [['mount.allowed', 'xfs', { kind: 'set' }]] as const }
  const instead = { text: 'ext4', origin: { kind: 'metadata' } }
  expect(resolve(CEILING, from).settings.get('mount.allowed')).toMatchObject({ text: 'xfs', instead })
})

test('an annotation lowers what is granted, and the ceiling the rest', () => {
  const from = { metadata: 'mount.allowed=ext4,btrfs', annotations: { [`${P}mount.allowed`]: 'btrfs' } }
  expect(resolve(CEILING, from).settings.get('mount.allowed')).toMatchObject({
    text: '',
    origin: { kind: 'annotation' },
  })
})

test('a default above a ceiling is lowered without a word', () => {
  const { settings } = resolve('ceiling: { sched_setscheduler.max_priority: 10 }', { metadata: 'sched_setscheduler' })
  expect(settings.get('sched_setscheduler.max_priority')).toMatchObject({ text: '10', origin: { kind: 'default' } })
  expect(clamped(settings)).toEqual([])
})

test.each([
  ['mknod', 'true', 'above its ceiling "false"'],
  ['mount.allowed', 'btrfs', 'above its ceiling "ext4,xfs"'],
  ['mount.allowed', 'xfs,btrfs', 'above its ceiling'],
  ['mount.fuse', 'ext4=other', 'above its ceiling'],
  ['mount.nodev', 'false', 'above its ceiling'],
  ['mount.allowed', 'xfs', undefined],
  ['mknod', 'false', undefined],
  ['sysinfo', 'true', undefined],
  ['mode', 'enforce', undefined],
] as const)('%s=%s that is to be set: %s', (name, text, why) => {
  const said = aboveCeiling(name, text, resolve(CEILING, {}).settings.get(name)!)
  if (why === undefined) expect(said).toBeUndefined()
  else expect(said).toContain(why)
})

test.each(keyNames)('%s has a ceiling by its long name, and its value is checked', (name) => {
  const { ceiling } = parseConfig(`ceiling: { ${fullName(name)}: '${CEILINGS[name] ?? 'true'}' }`, 'x.yaml')
  expect([...ceiling.keys()]).toEqual([name])
})
const CEILINGS: Readonly<Record<string, string>> = {
  'mknod.devices': '',
  'bpf.delegate_cmds': 'prog_load',
  'bpf.delegate_maps': 'hash',
  'bpf.delegate_progs': 'xdp',
  'bpf.delegate_attachs': '',
  mode: 'observe',
  'mount.allowed': 'ext4',
  'mount.fuse': '',
  'setxattr.allowed': 'security.NTACL',
  'rlimits.allowed': 'nofile=65536',
  'sched_setscheduler.max_priority': '7',
  'sched_setscheduler.min_nice': '-7',
}

test.each([
  ['ceiling: { mknodd: true }', 'unknown key "security.syscalls.intercept.mknodd" at line 1, column 12 (did you mean'],
  ['ceiling: { mknod: perhaps }', 'mknod is "perhaps" at line 1'],
  ['ceiling: [mknod]', 'ceiling is a list at line 1, column 1, allowed is a map of keys'],
])('%s is refused', (text, why) => {
  expect(() => parseConfig(text, 'x.yaml')).toThrow(why)
})

test('what was set and contradicts the configuration of now is left out, with the reason in words', () => {
  const from = {
    metadata: 'mount=true\nmount.allowed=ext4',
    set: [['mount.fuse', 'ext4=fuse2fs', { kind: 'set' }]] as const,
  }
  const { settings, notes } = resolve('', from)
  expect(settings.get('mount.fuse')!.text).toBe('')
  expect(notes).toEqual([{ key: 'mount.fuse', value: 'ext4=fuse2fs', why: expect.stringContaining('is in both') }])
})

test('what was set and contradicts leaves the rest as it is, with the reason in words', () => {
  const from = {
    metadata: 'mknod=true\nmount=true\nmount.fuse=ext4=fuse2fs',
    set: [
      ['mount.allowed', 'ext4', { kind: 'set' }],
      ['sysinfo', 'true', { kind: 'set' }],
      ['mknod', 'false', { kind: 'set' }],
    ] as const,
  }
  const { settings, policy, notes } = resolve('', from)
  expect(['mount.allowed', 'sysinfo', 'mknod'].map((key) => settings.get(key as KeyName)!.text)).toEqual([
    ...['', 'true', 'false'],
  ])
  expect(policy.mknod).toBe(undefined)
  expect(notes).toEqual([{ key: 'mount.allowed', value: 'ext4', why: expect.stringContaining('is in both') }])
})

test('annotations give the same in any order', () => {
  const metadata = 'mount=true\nmount.fuse=ext4=fuse2fs'
  const entries = [
    ['mount.allowed', 'ext4'],
    ['mount.fuse', ''],
  ].map(([key, value]) => [`${P}${key}`, value!] as const)
  const given = [entries, [...entries].reverse()].map((each) => {
    const annotations = Object.fromEntries(each)
    return resolve(`annotations: { raise: [mount.allowed] }`, { metadata, annotations }).policy
  })
  expect(given[0]).toEqual(given[1])
  expect(given[0]!.mount!.allowed).toEqual(new Set(['ext4']))
})
