import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import {
  type Addfd,
  encodeAddfd,
  encodeResponse,
  type Response,
  SECCOMP_NOTIF_ADDFD_SIZE,
  SECCOMP_NOTIF_RESP_SIZE,
  SECCOMP_NOTIF_SIZE,
} from '../../../src/abi/seccomp.ts'
import { major, makedev, minor } from '../../../src/abi/stat.ts'
import {
  decodeAddfd,
  decodeNotification,
  decodeResponse,
  encodeNotification,
  type Notification,
} from '../../support/seccomp-codecs.ts'

const u32 = fc.nat(0xffff_ffff)
const s32 = fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff })
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })
const s64 = fc.bigInt({ min: -0x8000_0000_0000_0000n, max: 0x7fff_ffff_ffff_ffffn })
const view = (size: number): DataView => new DataView(new ArrayBuffer(size))

describe('codecs give back what they took, in exactly the size of the struct', () => {
  test('struct seccomp_notif', () => {
    const notification: fc.Arbitrary<Notification> = fc.record({
      id: u64,
      tid: u32 as fc.Arbitrary<Tid>,
      nr: s32,
      arch: u32,
      ip: u64,
      args: fc.array(u64, { minLength: 6, maxLength: 6 }),
    })
    fc.assert(
      fc.property(notification, (value) => {
        const bytes = view(SECCOMP_NOTIF_SIZE)
        encodeNotification(bytes, value)
        expect(decodeNotification(bytes)).toEqual(value)
      }),
    )
    expect(() => decodeNotification(view(SECCOMP_NOTIF_SIZE - 1))).toThrow(RangeError)
  })

  test('struct seccomp_notif_resp', () => {
    const response: fc.Arbitrary<Response> = fc.record({ id: u64, value: s64, error: s32, flags: u32 })
    fc.assert(
      fc.property(response, (value) => {
        const bytes = view(SECCOMP_NOTIF_RESP_SIZE)
        encodeResponse(bytes, value)
        expect(decodeResponse(bytes)).toEqual(value)
      }),
    )
  })

  test('struct seccomp_notif_addfd', () => {
    const addfd: fc.Arbitrary<Addfd> = fc.record({ id: u64, flags: u32, srcfd: u32, newfd: u32, newfdFlags: u32 })
    fc.assert(
      fc.property(addfd, (value) => {
        const bytes = view(SECCOMP_NOTIF_ADDFD_SIZE)
        encodeAddfd(bytes, value)
        expect(decodeAddfd(bytes)).toEqual(value)
      }),
    )
  })

  test('device numbers', () => {
    fc.assert(
      fc.property(fc.nat(0xfff), fc.nat(0xfffff), (a, b) => {
        const dev = makedev(a, b)
        expect([major(dev), minor(dev)]).toEqual([a, b])
        expect(dev).toBeGreaterThanOrEqual(0)
      }),
    )
    expect(makedev(1, 3)).toBe(0x103)
  })
})
