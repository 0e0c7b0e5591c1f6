import { describe, expect, test } from 'vitest'
import type { Dev } from '../../../src/abi/brand.ts'
import { makedev, S_IFBLK, S_IFCHR, S_IFIFO } from '../../../src/abi/stat.ts'
import type { Caller, Registers } from '../../../src/calls/caller.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { mknod, mknodat } from '../../../src/syscalls/mknod.ts'
import { handle, registers, standIn } from '../../support/caller-stand-in.ts'

const policy = parsePolicy([
  ['mknod', 'true'],
  ['mknod.devices', 'c:10:200'],
])

const granting = parsePolicy([
  ['mknod', 'true'],
  ['mknod.devices', 'granted'],
])

const GARBAGE = 0xdead_beef_0000_0000n
const call = (mode: number, dev: Dev, high = 0n): Registers =>
  registers(0x1000n, high | BigInt(mode), high | BigInt(dev))

describe('mknod.screen() decides by the registers alone', () => {
  test.each([
    { node: 'null', mode: S_IFCHR | 0o666, dev: makedev(1, 3), reason: undefined },
    { node: 'a device of the list', mode: S_IFCHR, dev: makedev(10, 200), reason: undefined },
    { node: 'an overlay whiteout', mode: S_IFCHR, dev: makedev(0, 0), reason: 'kernelMakesWhiteouts' },
    { node: 'mem', mode: S_IFCHR, dev: makedev(1, 1), reason: 'deviceNotAllowed' },
    { node: 'null with the minor beyond a byte', mode: S_IFCHR, dev: makedev(1, 3 + 256), reason: 'deviceNotAllowed' },
    { node: 'a block device', mode: S_IFBLK, dev: makedev(1, 3), reason: 'notCharDevice' },
    { node: 'a FIFO', mode: S_IFIFO, dev: makedev(1, 3), reason: 'notCharDevice' },
  ])('$node: $reason', ({ mode, dev, reason }) => {
    for (const high of [0n, GARBAGE]) {
      expect(mknod.screen(call(mode, dev, high), policy)?.why.code).toBe(reason)
      const shifted = registers(3n, 0x1000n, high | BigInt(mode), high | BigInt(dev))
      expect(mknodat.screen(shifted, policy)?.why.code).toBe(reason)
    }
  })

  test.each([
    { node: 'a block device', mode: S_IFBLK | 0o660, dev: makedev(7, 0), reason: undefined },
    { node: 'a device that no list has', mode: S_IFCHR, dev: makedev(10, 237), reason: undefined },
    { node: 'an overlay whiteout', mode: S_IFCHR, dev: makedev(0, 0), reason: 'kernelMakesWhiteouts' },
    { node: 'a block device without a number', mode: S_IFBLK, dev: makedev(0, 0), reason: 'deviceNotGranted' },
    { node: 'a FIFO', mode: S_IFIFO, dev: makedev(7, 0), reason: 'notCharDevice' },
  ])('of what may be granted, $node: $reason', ({ mode, dev, reason }) => {
    expect(mknod.screen(call(mode, dev), granting)?.why.code).toBe(reason)
  })

  test('a policy without the key serves nothing', () => {
    expect(mknod.screen(call(S_IFCHR, makedev(1, 3)), {})).toMatchObject({ is: 'continue', why: { code: 'keyOff' } })
  })

  test('mode_t has 16 bits: what is above is not part of the type', () => {
    expect(mknod.screen(call(0x10000 | S_IFCHR, makedev(1, 3)), policy)).toBeUndefined()
  })
})

describe('mknodat.decide()', () => {
  const dir = handle(7)
  const caller = (changes: Partial<Caller> = {}) => standIn({ parent: (_, path) => ({ dir, name: path }), ...changes })
  const args = registers(5n, 0x1000n, BigInt(S_IFCHR | 0o640), BigInt(makedev(1, 3)))

  test.each<{ what: string; changes: Partial<Caller>; verdict: object }>([
    {
      what: 'an ordinary caller',
      changes: {},
      verdict: { is: 'act', act: { verb: 'mknod', dir }, why: { code: 'done' } },
    },
    {
      what: 'one in a child user namespace',
      changes: { inInitialUserns: false },
      verdict: { is: 'continue', why: { code: 'childUserns' } },
    },
    {
      what: 'one without CAP_MKNOD',
      changes: { holds: () => false },
      verdict: { is: 'continue', why: { code: 'lacksCapability', a: 27 } },
    },
    {
      what: 'one whose device rules bar the device',
      changes: { deviceRules: () => ({ mknod: false, open: false, full: false }) },
      verdict: { is: 'continue', why: { code: 'deviceCgroup', a: 1, b: 3 } },
    },
    {
      what: 'one whose device rules bar opening it',
      changes: { deviceRules: () => ({ mknod: true, open: false, full: false }) },
      verdict: { is: 'act', act: { verb: 'mknod' }, why: { code: 'doneButClosed' } },
    },
    {
      what: 'a tmpfs of the container',
      changes: { devicesBarred: () => ({ why: 'containerSuperblock', node: 'covered' }) },
      verdict: { is: 'act', act: { verb: 'placeNode', dir } },
    },
    {
      what: 'a mount that the container made nodev',
      changes: { devicesBarred: () => ({ why: 'nodevMount', node: 'plain' }) },
      verdict: { is: 'act', act: { verb: 'mknod', dir }, why: { code: 'doneOnNodev' } },
    },
    {
      what: 'an overlay of the container',
      changes: { devicesBarred: () => ({ why: 'containerSuperblock', node: 'none' }) },
      verdict: { is: 'continue', why: { code: 'containerSuperblock' } },
    },
  ])('$what', ({ changes, verdict }) => {
    const asked = caller(changes)
    expect(mknodat.decide(mknodat.decode(args, asked, policy), asked, policy)).toMatchObject(verdict)
  })

  /** Rules that name one device, each type of which the caller may use as the letters say. */
  const rulesOf =
    (type: number, only: Dev, letters: string): Caller['deviceRules'] =>
    (dev, of) => {
      const has = (letter: string): boolean => of === type && dev === only && letters.includes(letter)
      return { mknod: true, open: has('r') || has('w'), full: has('r') && has('w') }
    }
  const LOOP = makedev(7, 0)
  type Granted = { what: string; mode?: number; dev?: Dev; rules: Caller['deviceRules']; all?: true; verdict: object }
  test.each<Granted>([
    {
      what: 'that the rules allow',
      rules: rulesOf(S_IFBLK, LOOP, 'rw'),
      verdict: { is: 'act', act: { verb: 'mknod', mode: S_IFBLK | 0o640, dev: LOOP }, why: { code: 'doneAsGranted' } },
    },
    {
      what: 'that they allow to read',
      rules: rulesOf(S_IFBLK, LOOP, 'r'),
      verdict: { is: 'continue', why: { code: 'deviceNotGranted', a: 7, b: 0 } },
    },
    {
      what: 'of which they allow the one with characters',
      rules: rulesOf(S_IFCHR, LOOP, 'rw'),
      verdict: { is: 'continue', why: { code: 'deviceNotGranted' } },
    },
    {
      what: 'as the rules at the hand-over allow any',
      ...{ rules: rulesOf(S_IFBLK, LOOP, 'rw'), all: true },
      verdict: { is: 'continue', why: { code: 'everyDeviceGranted' } },
    },
    {
      what: 'with characters, of which a number gives the host away',
      ...{ mode: S_IFCHR, dev: makedev(1, 1), rules: rulesOf(S_IFCHR, makedev(1, 1), 'rw') },
      verdict: { is: 'continue', why: { code: 'deviceNotAllowed', a: 1, b: 1 } },
    },
    {
      what: 'with characters that they do not allow, which a list could have',
      ...{ mode: S_IFCHR, dev: makedev(10, 237), rules: rulesOf(S_IFBLK, LOOP, 'rw') },
      verdict: { is: 'continue', why: { code: 'deviceNotAllowed', a: 10, b: 237 } },
    },
    {
      what: 'with characters, as the rules at the hand-over allow any',
      ...{ mode: S_IFCHR, dev: makedev(10, 237), rules: rulesOf(S_IFCHR, makedev(10, 237), 'rw'), all: true },
      verdict: { is: 'continue', why: { code: 'deviceNotAllowed', a: 10, b: 237 } },
    },
    {
      what: 'with characters that the rules allow',
      ...{ mode: S_IFCHR, dev: makedev(10, 237), rules: rulesOf(S_IFCHR, makedev(10, 237), 'rw') },
      verdict: { is: 'act', act: { verb: 'mknod' }, why: { code: 'doneAsGranted' } },
    },
    {
      what: 'that is harmless, which the rules need not allow',
      ...{ mode: S_IFCHR, dev: makedev(1, 3), rules: rulesOf(S_IFCHR, LOOP, '') },
      verdict: { is: 'act', act: { verb: 'mknod' }, why: { code: 'doneButClosed' } },
    },
  ])('of a device $what', ({ mode = S_IFBLK, dev = LOOP, rules, all = false, verdict }) => {
    const asked = caller({ deviceRules: rules, deniesOtherDevices: () => !all })
    const made = registers(5n, 0x1000n, BigInt(mode | 0o640), BigInt(dev))
    expect(mknodat.decide(mknodat.decode(made, asked, granting), asked, granting)).toMatchObject(verdict)
  })

  const COVERED = { is: 'act', act: { verb: 'placeNode', why: 'opensHost' }, why: { code: 'doneAndBarred' } }
  test.each<{ where: string; barred: ReturnType<Caller['devicesBarred']>; verdict: object }>([
    { where: 'where devices open', barred: undefined, verdict: COVERED },
    { where: 'on a nodev mount', barred: { why: 'nodevMount', node: 'plain' }, verdict: COVERED },
    { where: 'on a tmpfs of the container', barred: { why: 'containerSuperblock', node: 'covered' }, verdict: COVERED },
    {
      where: 'on an overlay of the container',
      barred: { why: 'containerSuperblock', node: 'none' },
      verdict: { is: 'continue', why: { code: 'containerSuperblock' } },
    },
  ])("the host's console $where", ({ barred, verdict }) => {
    const console = registers(5n, 0x1000n, BigInt(S_IFCHR | 0o600), BigInt(makedev(5, 1)))
    const asked = caller({ devicesBarred: () => barred })
    expect(mknodat.decide(mknodat.decode(console, asked, policy), asked, policy)).toMatchObject(verdict)
  })

  test('decodes what the call uses, once', () => {
    const asked = caller()
    expect(mknodat.decode(args, asked, policy)).toEqual({
      dirfd: 5,
      path: Uint8Array.of(0x6e, 0),
      mode: S_IFCHR | 0o640,
      dev: makedev(1, 3),
    })
  })
})
