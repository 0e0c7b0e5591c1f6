// Answers what a handler asks of a caller: for tests of `decode`, `screen` and `decide`, which then need no kernel.

import type { PathBytes, Tid } from '../../src/abi/brand.ts'
import type { Caller, MemoryReader, Registers } from '../../src/calls/caller.ts'
import type { Handle } from '../../src/kernel/fd.ts'

/** Registers as the kernel hands them over: 64 bits, of which it reads what the argument's type has. */
export const registers = (...values: readonly bigint[]): Registers => ({
  int: (index) => Number(BigInt.asIntN(32, values[index]!)),
  uint: (index) => Number(BigInt.asUintN(32, values[index]!)),
  pointer: (index) => values[index]!,
})

export const handle = (raw: number): Handle => ({ raw, [Symbol.dispose]() {} })

/** What a test did not expect to be asked. */
const unasked = (): never => {
  throw new Error('The caller was asked for something that the test does not know')
}

/**
 * A caller that may do everything, for what `decide` makes of answers; what it makes of a real one is for the tests on the
 * kernel.
 */
export const standIn = (changes: Partial<Caller & MemoryReader> = {}): Caller & MemoryReader => ({
  tid: 42 as Tid,
  bits: 64,
  systemInfo: unasked,
  inInitialUserns: true,
  mayHaveTokens: false,
  bytes: unasked,
  path: () => Uint8Array.of(0x6e, 0) as PathBytes,
  holds: () => true,
  commands: () => true,
  task: unasked,
  scheduling: () => ({ policy: 0, flags: 0n, priority: 0 }),
  hardLimit: () => 0n,
  canRaiseLimits: true,
  deviceRules: () => ({ mknod: true, open: true, full: true }),
  deniesOtherDevices: () => true,
  parent: unasked,
  string: unasked,
  options: unasked,
  hostId: unasked,
  get mounts(): never {
    return unasked()
  },
  get fuse(): never {
    return unasked()
  },
  object: unasked,
  descriptor: unasked,
  descriptors: handle(3),
  devicesBarred: () => undefined,
  mountedInside: () => true,
  sourceKind: unasked,
  mustBeCharged: () => false,
  mountNode: unasked,
  get devicePrograms(): never {
    return unasked()
  },
  note: unasked,
  noted: 0n,
  mayComeAgain: false,
  act: (_, action) => action(),
  look: (_, action) => action(),
  ...changes,
})
