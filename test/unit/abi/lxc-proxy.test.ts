import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { PROXY_MESSAGE_LIMIT, parseProxyRequest } from '../../../src/abi/lxc-proxy.ts'

/** A message as LXC makes it, with what a test wants in the header. */
function message({ notif = 80, resp = 24, cookie = '', length = BigInt(cookie.length), init = 7 } = {}): Buffer {
  const bytes = Buffer.alloc(32 + notif + resp)
  bytes.writeUInt32LE(init, 12)
  bytes.writeUInt16LE(notif, 16)
  bytes.writeUInt16LE(resp, 18)
  bytes.writeBigUInt64LE(length, 24)
  return Buffer.concat([bytes, Buffer.from(cookie)])
}

describe('parseProxyRequest()', () => {
  test.each([
    { what: 'the structs of today', given: {}, response: 112, replyLength: 136, cookie: '' },
    { what: 'a cookie', given: { cookie: 'profile=web' }, response: 112, replyLength: 136, cookie: 'profile=web' },
    {
      what: 'longer structs',
      given: { notif: 96, resp: 32, cookie: 'a' },
      response: 128,
      replyLength: 160,
      cookie: 'a',
    },
  ])('takes $what', ({ given, response, replyLength, cookie }) => {
    const request = parseProxyRequest(message(given))
    expect(request).toMatchObject({ init: 7, response, replyLength })
    expect(Buffer.from(request.cookie).toString()).toBe(cookie)
  })

  test.each([
    { what: 'nothing', given: Buffer.alloc(0) },
    { what: 'a header alone', given: message().subarray(0, 32) },
    { what: 'a short notification', given: message({ notif: 79 }) },
    { what: 'a notification without end', given: message({ notif: 1025 }) },
    { what: 'a short response', given: message({ resp: 23 }) },
    { what: 'a cookie that is not there', given: message({ length: 1n }) },
    { what: 'more than its cookie', given: message({ cookie: 'ab', length: 1n }) },
    { what: 'a length that wraps', given: message({ length: 2n ** 64n - 136n }) },
    { what: 'too long a cookie', given: message({ cookie: 'x'.repeat(PROXY_MESSAGE_LIMIT) }) },
  ])('refuses $what', ({ given }) => {
    expect(() => parseProxyRequest(given)).toThrow(RangeError)
  })

  test('takes or refuses whatever comes, and never reads beyond it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          const { response, replyLength, cookie } = parseProxyRequest(bytes)
          expect(replyLength + cookie.length).toBe(bytes.length)
          expect(response + 24).toBeLessThanOrEqual(replyLength)
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError)
        }
      }),
    )
  })
})
