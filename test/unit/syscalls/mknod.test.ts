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
      changes: { deviceRules: () => ({ mknod: false, open: false }) },
      verdict: { is: 'continue', why: { code: 'deviceCgroup', a: 1, b: 3 } },
    },
    {
      what: 'one whose device rules bar opening it',
      changes: { deviceRules: () => ({ mknod: true, open: false }) },
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
    expect(mknodat.decide(mknodat.decode(args, asked), asked, policy)).toMatchObject(verdict)
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
    expect(mknodat.decide(mknodat.decode(console, asked), asked, policy)).toMatchObject(verdict)
  })

  test('decodes what the call uses, once', () => {
    const asked = caller()
    expect(mknodat.decode(args, asked)).toEqual({
      dirfd: 5,
      path: Uint8Array.of(0x6e, 0),
      mode: S_IFCHR | 0o640,
      dev: makedev(1, 3),
    })
  })
})
