import { expect, test } from 'vitest'
import { reach } from '../../src/engine/reachable.ts'

const closed =
  (...directories: string[]) =>
  (directory: string) =>
    !directories.includes(directory)

test('a program that everybody can reach is started as it is', () => {
  expect(reach('/usr/lib/i/dist/x.js', closed())).toEqual({ prefix: [], path: '/usr/lib/i/dist/x.js' })
})

test('below a closed directory the part beneath it is shown elsewhere', () => {
  const { prefix, path } = reach('/root/src/i/dist/x.js', closed('/root'))
  expect(path).toBe('/run/intercede/program/i/dist/x.js')
  expect(prefix.slice(-2)).toEqual(['/root/src', '/run/intercede/program'])
})

test('the innermost closed directory counts', () => {
  expect(reach('/root/src/i/dist/x.js', closed('/root', '/root/src')).prefix).toContain('/root/src/i')
})
