import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { delegations } from '../../../src/policy/delegations.ts'
import { expandShort } from '../../../src/policy/key.ts'
import {
  formatLines,
  formatOrigin,
  type Origin,
  parseAssignment,
  parseLines,
  parseOrigin,
} from '../../../src/policy/key-value-lines.ts'
import { keyNames, toKeyName } from '../../../src/policy/keys.ts'

const P = 'security.syscalls.intercept.'

test.each([
  ['mknod', `${P}mknod`],
  ['mount.allowed', `${P}mount.allowed`],
  [`${P}mknod`, `${P}mknod`],
  ['security.nesting', 'security.nesting'],
])('expandShort(%j) is %j', (short, full) => expect(expandShort(short)).toBe(full))

/** doc/reference/instance_options.md of LXD 6, security.syscalls.intercept.*: those that have a meaning here. */
const OF_LXD = new Set([
  ...['bpf', 'bpf.devices', 'mknod', 'mount', 'mount.allowed', 'mount.fuse', 'mount.shift', 'sched_setscheduler'],
  ...['setxattr', 'sysinfo'],
])

test('docs/guide/keys.md names the keys that are not those of LXD', () => {
  const page = readFileSync(new URL('../../../docs/guide/keys.md', import.meta.url), 'utf8')
  const [, named] = /Fourteen are our own:\n([^.]*(?:\.\w[^.]*)*)\.\n/.exec(page)!
  const ours = [...named!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!)
  expect(ours.sort()).toEqual(keyNames.filter((name) => !OF_LXD.has(name)).sort())
})

test('docs/guide/bpf-tokens.md has all values that tokens may have', () => {
  const page = readFileSync(new URL('../../../docs/guide/bpf-tokens.md', import.meta.url), 'utf8')
  const [listed] = /## What can be listed[^#]*/.exec(page.replaceAll('\n', ' '))!
  for (const { listable } of delegations.slice(1))
    expect(listed).toContain([...listable].map((name) => `\`${name}\``).join(', '))
})

test.each([
  { name: 'mount', key: 'mount' },
  { name: `${P}sched_setscheduler.max_priority`, key: 'sched_setscheduler.max_priority' },
  { name: 'moutn', error: `Cannot read policy: unknown key "${P}moutn" (did you mean "${P}mount"?)` },
  { name: 'raw', error: `Cannot read policy: unknown key "${P}raw"; "intercede profile --help" lists them` },
  {
    name: 'security.nesting',
    error: 'Cannot read policy: unknown key "security.nesting"; "intercede profile --help" lists them',
  },
  {
    name: 'constructor',
    error: `Cannot read policy: unknown key "${P}constructor"; "intercede profile --help" lists them`,
  },
])('toKeyName($name)', ({ name, key, error }) => {
  if (error === undefined) expect(toKeyName(name)).toBe(key)
  else expect(() => toKeyName(name)).toThrow(expect.objectContaining({ message: error }))
})

describe('parseAssignment()', () => {
  test.each([
    ['mknod', [`${P}mknod`, 'true']],
    ['mknod=no', [`${P}mknod`, 'no']],
    [' mount.fuse = ext4=fuse2fs ', [`${P}mount.fuse`, 'ext4=fuse2fs']],
    ['mknod.devices=', [`${P}mknod.devices`, '']],
    [`${P}nonsense=1`, [`${P}nonsense`, '1']],
  ])('reads %j', (text, pair) => expect(parseAssignment(text)).toEqual(pair))

  test.each([
    [
      'mount.allowed',
      `Cannot read policy: ${P}mount.allowed has no value: allowed is a list of file systems such as ext4,xfs`,
    ],
    ['profile', `Cannot read policy: ${P}profile has no value: name a profile`],
    ['mknot', `Cannot read policy: unknown key "${P}mknot" (did you mean "${P}mknod"?)`],
  ])('refuses %j', (text, message) =>
    expect(() => parseAssignment(text)).toThrow(expect.objectContaining({ message: message })),
  )
})

describe('parseLines()', () => {
  test('knows where each entry stood', () => {
    const at = (line: number) => ({ line, of: "the container's metadata" })
    const text = `# made by hand\n\nprofile=build\r\n${P}mknod=true\n  sysinfo\n`
    expect(parseLines(text, { kind: 'metadata' })).toEqual({
      profile: { name: 'build', place: at(3) },
      entries: [
        [`${P}mknod`, 'true', { kind: 'metadata' }, at(4)],
        [`${P}sysinfo`, 'true', { kind: 'metadata' }, at(5)],
      ],
    })
  })

  test('names the line of what it cannot read', () => {
    expect(() => parseLines('mknod\n\n\nmoutn')).toThrow(
      expect.objectContaining({
        message: `Cannot read policy: unknown key "${P}moutn" at line 4 of the container's metadata (did you mean "${P}mount"?)`,
      }),
    )
  })

  test('is the inverse of formatLines()', () => {
    const value = fc.stringMatching(/^[A-Za-z0-9=,:./]*$/)
    const entry = fc.tuple(fc.constantFrom(...keyNames), value)
    const name = fc.stringMatching(/^[a-z]{1,9}$/)
    fc.assert(
      fc.property(fc.array(entry), fc.option(name, { nil: undefined }), (entries, profile) => {
        const lines = parseLines(formatLines({ entries, ...(profile ? { profile: { name: profile } } : {}) }))
        expect(lines.entries.map(([key, text]) => [key, text])).toEqual(entries.map(([k, v]) => [`${P}${k}`, v]))
        expect(lines.profile?.name).toBe(profile)
      }),
    )
  })
})

test.each<Origin>([
  ...(['default', 'configuration', 'metadata', 'annotation', 'unreadable', 'set', 'command line'] as const).map(
    (kind) => ({ kind }),
  ),
  { kind: 'profile', name: 'a b' },
])('a reader gets the origin $kind back from its words', (origin) => {
  expect(parseOrigin(formatOrigin(origin))).toEqual(origin)
})
