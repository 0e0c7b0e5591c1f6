import { expect, test } from 'vitest'
import { architectures } from '../../../src/abi/syscalls.ts'
import { routes } from '../../../src/engine/serve/server.ts'
import { sysinfo } from '../../../src/syscalls/sysinfo.ts'
import { registers, standIn } from '../../support/caller-stand-in.ts'

const args = registers(0x1000n)
const info = new Uint8Array(112)

test('sysinfo.decide() reports to anybody, whatever the caller may do and wherever it stands', () => {
  for (const changes of [{}, { inInitialUserns: false, holds: () => false }]) {
    const caller = standIn({ systemInfo: () => info, ...changes })
    expect(sysinfo.screen(args, { sysinfo: {} })).toBeUndefined()
    expect(sysinfo.decide(sysinfo.decode(args, caller, { sysinfo: {} }), caller, { sysinfo: {} })).toEqual({
      is: 'act',
      act: { verb: 'report', writes: [{ at: 0x1000n, bytes: info }] },
      why: { code: 'done' },
    })
  }
})

test('sysinfo.screen() leaves the call to the kernel without the key', () => {
  expect(sysinfo.screen(args, {})).toMatchObject({ is: 'continue', why: { code: 'keyOff' } })
})

test.each([
  { arch: 'x86_64', number: 99, bits: 64 },
  { arch: 'i386', number: 116, bits: 32 },
  { arch: 'aarch64', number: 179, bits: 64 },
  { arch: 'arm', number: 116, bits: 32 },
] as const)('number $number of $arch leads to it, with $bits bits', ({ arch, number, bits }) => {
  const route = routes.get(architectures[arch].audit)
  expect(route?.handlers[number]).toBe(sysinfo)
  expect(route?.bits).toBe(bits)
})

/** x32 has the audit architecture of x86_64 and a bit in its numbers. No distribution's kernel has it on. */
test('a number of x32 leads nowhere: the kernel answers it', () => {
  expect(routes.get(architectures.x86_64.audit)?.handlers[0x4000_0000 | 99]).toBeUndefined()
})
