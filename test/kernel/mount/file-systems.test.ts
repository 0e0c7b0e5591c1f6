import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { knownFileSystems } from '../../../src/keeper/ineffective-keys.ts'

test('knownFileSystems() has what the kernel lists', () => {
  const listed = readFileSync('/proc/filesystems', 'latin1').trimEnd().split('\n')
  const names = listed.map((line) => line.split('\t')[1])
  expect([...knownFileSystems()]).toEqual(expect.arrayContaining(names))
  expect(knownFileSystems().has('tmpfs')).toBe(true)
})
