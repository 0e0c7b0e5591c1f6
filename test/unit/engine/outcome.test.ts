import { expect, test } from 'vitest'
import { errno } from '../../../src/abi/errno.ts'
import type { NotifiedCaller } from '../../../src/caller/caller.ts'
import { why } from '../../../src/calls/reasons.ts'
import { ContinueError } from '../../../src/calls/verdict.ts'
import { outcomeOfError, writeBack } from '../../../src/engine/serve/outcome.ts'
import { SyscallError } from '../../../src/kernel/error.ts'

test.each([
  { what: 'memory that cannot be opened', error: new ContinueError('unreadable', 13), is: 'errno', code: 'notWritten' },
  { what: 'no descriptor that is free', error: new ContinueError('lookFailed', 24), is: 'errno', code: 'notWritten' },
  { what: 'a bad page', error: new SyscallError('pwrite', errno('EFAULT')), is: 'errno', code: 'kernelAnswered' },
  { what: 'a caller that is gone', error: new ContinueError('gone'), is: 'continue', code: 'gone' },
])('a result that cannot be written is no success, and no call of the kernel: $what', ({ error, is, code }) => {
  let isClosed = false
  const write = (): never => {
    throw error
  }
  const fd = { raw: -1, [Symbol.dispose]: () => (isClosed = true) }
  const effect = { value: 0n, writes: [{ at: 0n, bytes: new Uint8Array(1) }], fd: fd as never }
  const outcome = (): unknown => {
    try {
      return writeBack(effect, { write } as unknown as NotifiedCaller, why('done'))
    } catch (thrown) {
      return outcomeOfError(thrown)
    }
  }
  expect(outcome()).toMatchObject({ is, errno: is === 'errno' ? errno('EFAULT') : 0, why: { code } })
  expect(isClosed).toBe(true)
})
