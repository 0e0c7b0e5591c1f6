import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import { packAttribute, packName } from '../../../src/calls/packed.ts'
import { explain, explainInGeneral, reasonCodes, reasons } from '../../../src/calls/reasons.ts'
import { type CallRecord, decodeRecord, encodeRecord, RECORD_SIZE, verdicts } from '../../../src/calls/record.ts'
import { spell } from '../../../src/calls/spell.ts'
import { keyNames } from '../../../src/policy/keys.ts'

const u32 = fc.nat(0xffff_ffff)

const records: fc.Arbitrary<CallRecord> = fc.record({
  container: u32,
  serial: u32,
  nr: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
  arch: u32,
  tid: u32 as fc.Arbitrary<Tid>,
  verdict: fc.constantFrom(...verdicts),
  errno: fc.nat(4095),
  reason: fc.constantFrom(...reasonCodes),
  a: u32,
  b: u32,
  microseconds: fc.float({ noNaN: true }),
  time: fc.double({ noNaN: true }),
})

test('a record is decoded as it was encoded, beside another one', () => {
  fc.assert(
    fc.property(records, records, (one, other) => {
      const view = new DataView(new ArrayBuffer(2 * RECORD_SIZE))
      encodeRecord(view, 0, one)
      encodeRecord(view, RECORD_SIZE, other)
      expect([decodeRecord(view, 0), decodeRecord(view, RECORD_SIZE)]).toEqual([one, other])
    }),
  )
})

test('a call of 32 bits is spelled without the upper halves that the kernel does not see', () => {
  const args = [0n, 0n, 0n, 0xdead_beef_0000_0001n, 0xdead_beef_0000_0000n, 0n]
  const texts = new Uint8Array()
  const [i386, x86_64] = [0x4000_0003, 0xc000_003e]
  expect(spell(i386, 21, { args, texts })).toBe('mount(NULL, NULL, NULL, MS_RDONLY, NULL)')
  expect(spell(x86_64, 165, { args, texts })).toContain('0xdeadbeef00000000')
})

test('explain() fills in the numbers, in words', () => {
  expect(explain({ code: 'deviceNotAllowed', a: 10, b: 200 })).toEqual({
    says: 'the device 10:200 is not allowed',
    remedy: 'if it is harmless, add c:10:200 to security.syscalls.intercept.mknod.devices',
  })
  expect(explain({ code: 'deviceNotAllowed', a: 1, b: 1 })).toEqual({
    says: 'the device 1:1 is not allowed',
    remedy: 'no key allows it, since it would give the container the memory of the host (/dev/mem)',
  })
  expect(explain({ code: 'lacksCapability', a: 27 }).remedy).toContain('--cap-add MKNOD')
})

test('explain() names the key that is off, in words', () => {
  const { says } = explain({ code: 'keyOff', a: keyNames.indexOf('setxattr.read') })
  expect(says).toBe('the key security.syscalls.intercept.setxattr.read is off for this container')
  expect(explain({ code: 'keyOff', a: 1000 }).says).toContain('1000')
})

test.each([
  ['btrfs', '"btrfs"'],
  ['squashfs', '"squashfs"'],
  ['hugetlbfs', '"hugetlb..."'],
  ['', '""'],
  ['\n"{b}\u00ff', '"??{b}?"'],
  ['$& {a}', '"$&?{a}"'],
])('explain() names the file system %j, in words', (name, shown) => {
  const [a, b] = packName(name)
  const { says } = explain({ code: 'fileSystemNotAllowed', a, b })
  expect(says).toBe(`the file system ${shown} is not in security.syscalls.intercept.mount.allowed`)
})

test.each([
  ['fuse2fs', '"fuse2fs"'],
  ['squashfuse', '"squashf..."'],
])('explain() names the FUSE program %s, in words', (name, shown) => {
  const [a, b] = packName(name)
  expect(explain({ code: 'fuseNoProgram', a, b }).says).toContain(`lacks the FUSE program ${shown}, which`)
})

test.each([
  ['set', 'security.NTACL', 'set "security.NTACL"'],
  ['remove', 'trusted.a', 'remove "trusted.a"'],
  ['get', 'trusted.glusterfs.volume-id', 'get "trusted.gluste..."'],
  ['set', 'security.\x1b[2J', 'set "security.?[2J"'],
] as const)('a reason tells to %s %j as %s, in words', (deed, name, shown) => {
  const [a, b] = packAttribute(deed, name)
  expect(explain({ code: 'attributeNotListed', a, b }).says).toBe(
    `the policy does not list the attribute of this call: ${shown}`,
  )
})

test.each(Object.entries(reasons))('%s is one sentence without a full stop, and uses known places only', (_, texts) => {
  for (const text of texts) {
    expect(text).not.toMatch(/[.\n]$/)
    expect(
      text.replaceAll(
        /\{(a|b|a:int|b:int|a:cap|a:errno|a:delegation|b:delegated|a:key|a:name|a:attribute|a:resource|a:limit|b:reason)\}/g,
        '',
      ),
    ).not.toMatch(/[{}]/)
  }
})

test('every reason can be explained without a call, and has a place in the code that gives it', () => {
  const src = fileURLToPath(new URL('../../../src', import.meta.url))
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
  const code = files.filter((name) => name !== 'calls/reasons.ts').map((name) => readFileSync(join(src, name), 'utf8'))
  for (const reason of reasonCodes) {
    expect(Object.values(explainInGeneral(reason)).join('')).not.toMatch(/[{}]/)
    expect(code.some((text) => text.includes(`'${reason}'`)) ? undefined : reason).toBe(undefined)
  }
})

test('a reason without a call has words for its numbers, in words', () => {
  const { says, remedy } = explainInGeneral('lacksCapability')
  expect(says).toBe('the caller lacks CAP_NAME in its user namespace')
  expect(remedy).toContain('--cap-add NAME')
  expect(explainInGeneral('deviceNotAllowed').remedy).toContain('c:A:B')
})
