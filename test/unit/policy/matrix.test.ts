import { describe, expect, test } from 'vitest'
import { type Config, parseConfig } from '../../../src/policy/config.ts'
import { fullName } from '../../../src/policy/key.ts'
import { PROFILE } from '../../../src/policy/key-value-lines.ts'
import { keys, type PermittingKey } from '../../../src/policy/keys.ts'
import { type PolicySources, resolve as resolveHere } from '../../../src/policy/resolve.ts'
import { linesOf } from '../../../src/runtimes/lxc.ts'

/** On a host where nobody has a device. */
const resolve = (...given: [config: Config, from: PolicySources]) => resolveHere(...given, () => [])

/** For each key a value that gives more than its default, and one that gives less; `mode` gives nothing by itself. */
const values: Record<PermittingKey, { readonly more: string; readonly less: string }> = {
  mknod: { more: 'true', less: 'false' },
  'mknod.devices': { more: 'c:10:200', less: '' },
  bpf: { more: 'true', less: 'false' },
  'bpf.devices': { more: 'true', less: 'false' },
  'bpf.delegate_cmds': { more: 'prog_load', less: '' },
  'bpf.delegate_maps': { more: 'hash', less: '' },
  'bpf.delegate_progs': { more: 'xdp', less: '' },
  'bpf.delegate_attachs': { more: 'xdp', less: '' },
  mount: { more: 'true', less: 'false' },
  'mount.allowed': { more: 'ext4', less: '' },
  'mount.fuse': { more: 'ext4=fuse2fs', less: '' },
  'mount.shift': { more: 'true', less: 'false' },
  'mount.nodev': { more: 'false', less: 'true' },
  sched_setscheduler: { more: 'true', less: 'false' },
  'sched_setscheduler.max_priority': { more: '99', less: '1' },
  'sched_setscheduler.min_nice': { more: '-20', less: '0' },
  'sched_setscheduler.ioprio': { more: 'true', less: 'false' },
  rlimits: { more: 'true', less: 'false' },
  'rlimits.allowed': { more: 'nofile=1048576,memlock=2G', less: 'nofile=4096' },
  setxattr: { more: 'true', less: 'false' },
  'setxattr.allowed': { more: 'security.NTACL', less: '' },
  'setxattr.read': { more: 'true', less: 'false' },
  sysinfo: { more: 'true', less: 'false' },
}
const row = (name: PermittingKey) => ({ name, key: fullName(name), ...values[name] })
const rows = (Object.keys(values) as PermittingKey[]).map(row)

/** A configuration with one profile, which gives everything that can be given at once. */
const everything = rows.filter(({ name }) => name !== 'mount.fuse').map(({ key, more }) => `    ${key}: ${more}`)
const withProfile = (annotations: string) =>
  parseConfig(`profiles:\n  most:\n${everything.join('\n')}\n${annotations}`, 'x.yaml')
const empty = parseConfig('', '')

const settingOf = (name: PermittingKey | 'mode', config: typeof empty, given: PolicySources) => {
  const { settings, notes } = resolve(config, given)
  return { ...settings.get(name), notes: notes.length }
}

describe.each(rows)('$name', ({ name, key, more, less }) => {
  const usual = { text: keys[name].default, origin: { kind: 'default' } }

  test('by the file', () => {
    const config = parseConfig(`default: { ${key}: '${more}' }`, 'x.yaml')
    expect(settingOf(name, config, {})).toEqual({ text: more, origin: { kind: 'configuration' }, notes: 0 })
  })
  test('by the metadata', () => {
    expect(settingOf(name, empty, { metadata: `${key}=${more}\n` })).toEqual({
      text: more,
      origin: { kind: 'metadata' },
      notes: 0,
    })
  })
  test('by the cookie of LXC', () => {
    const metadata = linesOf(Buffer.from(`${key}=${more};sysinfo=true`))
    expect(settingOf(name, empty, { metadata })).toMatchObject({ text: more, origin: { kind: 'metadata' }, notes: 0 })
  })
  test('not by an annotation', () => {
    const given = { annotations: { [key]: more } }
    expect(settingOf(name, empty, given)).toEqual({ ...usual, notes: 1 })
    expect(resolve(empty, given).policy).toEqual({})
  })
  test('less by an annotation', () => {
    const given = { metadata: `${key}=${more}`, annotations: { [key]: less } }
    expect(settingOf(name, empty, given)).toEqual({ text: less, origin: { kind: 'annotation' }, notes: 0 })
  })
  test('not by an annotation beyond the profile that the metadata names', () => {
    const config = parseConfig('profiles: { some: { sysinfo: false } }', 'x.yaml')
    const given = { metadata: 'profile=some', annotations: { [key]: more } }
    const { settings, notes } = resolve(config, given)
    expect(settings.get(name)?.text).toBe(usual.text)
    expect(notes).toMatchObject([{ key, value: more }])
  })
  test('by an annotation that the file lists, and by no other', () => {
    const config = parseConfig(`annotations: { raise: [${key}] }`, 'x.yaml')
    expect(settingOf(name, config, { annotations: { [key]: more } })).toEqual({
      text: more,
      origin: { kind: 'annotation' },
      notes: 0,
    })
    for (const other of rows.filter((one) => one.name !== name)) {
      const annotations = { [other.key]: other.more }
      expect(settingOf(other.name, config, { annotations })).toMatchObject({ origin: { kind: 'default' }, notes: 1 })
    }
  })
})

describe('a profile by an annotation', () => {
  const annotations = { [PROFILE]: 'most' }
  test('not under the default configuration', () => {
    const { policy, notes } = resolve(withProfile(''), { annotations })
    expect(policy).toEqual({})
    expect(notes).toMatchObject([{ key: PROFILE }])
  })
  test('where the file lists it, and then nothing beyond it', () => {
    const config = withProfile('annotations: { profiles: [most] }')
    const chosen = resolve(config, { annotations })
    expect(chosen.policy).toEqual(resolve(config, { metadata: 'profile=most' }).policy)
    const more = { ...annotations, [fullName('mknod.devices')]: 'c:10:200,c:10:229', [fullName('mount.fuse')]: 'xfs=a' }
    expect(resolve(config, { annotations: more })).toMatchObject({ policy: chosen.policy, notes: [{}, {}] })
  })
})

describe('mode', () => {
  const key = fullName('mode')
  const observing = { text: 'observe', notes: 0 }
  const config = (text: string) => parseConfig(text, 'x.yaml')

  test('by the file, a profile, the metadata, an annotation, and intercede set', () => {
    const profile = config('profiles: { look: { mode: observe } }')
    expect(settingOf('mode', config('default: { mode: observe }'), {})).toMatchObject(observing)
    expect(settingOf('mode', profile, { metadata: 'profile=look' })).toMatchObject(observing)
    expect(settingOf('mode', empty, { metadata: 'mode=Observe' })).toMatchObject(observing)
    expect(settingOf('mode', empty, { annotations: { [key]: 'observe' } })).toMatchObject(observing)
    expect(settingOf('mode', empty, { set: [['mode', 'observe', { kind: 'set' }]] })).toMatchObject(observing)
    expect(resolve(empty, { metadata: 'mode=observe\nmknod=true' }).policy).toMatchObject({
      mode: 'observe',
      mknod: {},
    })
  })
  test('an annotation does not end it, and one that cannot be read begins it', () => {
    const given = { metadata: 'mode=observe', annotations: { [key]: 'enforce' } }
    expect(settingOf('mode', empty, given)).toMatchObject({ text: 'observe', notes: 1 })
    expect(settingOf('mode', empty, { annotations: { [key]: 'enforced' } })).toMatchObject({ text: 'observe' })
  })
  test('a ceiling holds over everything', () => {
    const ceiling = config('ceiling: { mode: observe }')
    const set = [['mode', 'enforce', { kind: 'set' }]] as const
    expect(settingOf('mode', ceiling, { metadata: 'mode=enforce', set })).toMatchObject({ text: 'observe' })
    expect(settingOf('mode', ceiling, {})).toMatchObject(observing)
  })
  test('what is neither mode is said, with what is allowed', () => {
    expect(() => resolve(empty, { metadata: 'mode=watch' })).toThrow(/"watch".*allowed is enforce or observe/)
  })
})

test('keys of a container author that are nobody of ours are left alone', () => {
  expect(resolve(empty, { annotations: { 'run.oci.handler': 'x', 'security.other': 'y' } }).notes).toEqual([])
})
