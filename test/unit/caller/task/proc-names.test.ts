import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { ProcNames } from '../../../../src/caller/task/proc-access.ts'

/** As the kernel reads it: up to the first NUL. */
const text = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString('latin1')

test('a name of a task is its number and the name, whatever was asked for before', () => {
  const names = new ProcNames()
  for (const tid of [4194303, 9, 10, 1, 99, 100, 65535, 2147483647]) {
    for (const name of ['status', '.', 'fd/2147483647', 'ns/user']) {
      expect(text(names.of(tid as Tid, name))).toBe(`${tid}/${name}`)
    }
  }
})
