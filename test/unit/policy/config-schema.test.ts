// The schema that editors read: what the daemon takes it takes, and it finds what is mistyped.
import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { ConfigFile, parseConfig } from '../../../src/policy/config.ts'
import { CONFIG_KEYS, type ConfigKeyName, exampleOf } from '../../../src/policy/config-keys.ts'
import { fullName } from '../../../src/policy/key.ts'
import { keyNames, keys } from '../../../src/policy/keys.ts'

const schema = JSON.parse(readFileSync(new URL('../../../deploy/config.schema.json', import.meta.url), 'utf8'))
const isValid = new Ajv({ allowUnionTypes: true }).compile(schema)
const says = (yaml: string): { readonly schema: boolean; readonly daemon: boolean } => {
  let daemon = true
  try {
    parseConfig(yaml, 'x.yaml', () => [])
  } catch {
    daemon = false
  }
  return { schema: isValid(parse(yaml) ?? {}), daemon }
}

test('every section of a file is in the schema', () => {
  expect(Object.keys(schema.properties)).toEqual(Object.keys(ConfigFile.pipe[2].entries))
})

const VALUES: Readonly<Record<string, string>> = {
  'mknod.devices': '[c:10:200, "c:10:229"]',
  'bpf.delegate_cmds': '[prog_load, map_create]',
  'bpf.delegate_maps': 'hash',
  'bpf.delegate_progs': 'xdp',
  'bpf.delegate_attachs': 'xdp',
  'mount.allowed': 'ext4,xfs',
  'mount.fuse': '{ ext4: fuse2fs }',
  'rlimits.allowed': '{ nofile: 1048576, memlock: 2G }',
  'setxattr.allowed': '[security.NTACL, trusted.glusterfs.*]',
  'sched_setscheduler.max_priority': '7',
  'sched_setscheduler.min_nice': '-7',
  mode: 'observe',
}
test.each(keyNames)('%s by both names, and its default', (name) => {
  for (const each of [name, fullName(name)])
    for (const value of [VALUES[name] ?? 'true', JSON.stringify(keys[name].default)])
      expect(says(`default:\n  ${each}: ${value}`), `${each}: ${value}`).toEqual({ schema: true, daemon: true })
})

test.each(Object.keys(CONFIG_KEYS) as ConfigKeyName[])('the example of %s', (name) => {
  const vpn = name === 'profiles' ? '' : '\nprofiles: { vpn: { mknod: true } }'
  expect(says(`${exampleOf(name)}${vpn}`)).toEqual({ schema: true, daemon: true })
})

test.each([
  '',
  'limits:',
  'default:',
  'default: { mknod: YES, mode: Observe, sysinfo: " off" }',
  'default:\nprofiles: { a: { sysinfo: 1 } }',
  '{ log: { level: debug }, limits: { calls: 8 } }',
])('%j', (yaml) => expect(says(yaml)).toEqual({ schema: true, daemon: true }))

test.each([
  'defaults: {}',
  'default: { mknodd: true }',
  'default: { mknod: perhaps }',
  'ceiling: { mode: watch }',
  'profiles: { a: { sysinfos: true } }',
  'profiles: [a]',
  'profiles: { a: }',
  'ceiling: { sched_setscheduler.max_priority: 200 }',
  'default: { sched_setscheduler.max_priority: true }',
  'log: { level: loud }',
  'log: { levels: debug }',
  'limits: { calls: 0 }',
  'limits: { records: many }',
  'reload: never',
  '[]',
])('%j is not valid', (yaml) => expect(says(yaml)).toEqual({ schema: false, daemon: false }))
