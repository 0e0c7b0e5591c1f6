import { expect, test } from 'vitest'
import { exposePrograms } from '../../../../src/engine/helpers/walker-mounts.ts'

const closed =
  (...directories: string[]) =>
  (directory: string) =>
    !directories.includes(directory)
const PLACE = '/run/intercede/program'

test('programs that everybody can reach are started as they are', () => {
  expect(exposePrograms(['/usr/bin/node', '/usr/lib/i/dist/x.js'], closed())).toEqual({
    binds: [],
    paths: ['/usr/bin/node', '/usr/lib/i/dist/x.js'],
  })
})

test('below a closed directory the part beneath it is shown elsewhere', () => {
  const { binds, paths } = exposePrograms(['/usr/bin/node', '/root/src/i/dist/x.js'], closed('/root'))
  expect(paths).toEqual(['/usr/bin/node', `${PLACE}/1/i/dist/x.js`])
  expect(binds).toEqual([['/root/src', `${PLACE}/1`]])
})

test('the innermost closed directory counts, and each program has a place of its own', () => {
  const { binds, paths } = exposePrograms(['/root/.nvm/bin/node', '/root/src/i/x.js'], closed('/root', '/root/src'))
  expect(binds).toEqual([
    ['/root/.nvm', `${PLACE}/0`],
    ['/root/src/i', `${PLACE}/1`],
  ])
  expect(paths).toEqual([`${PLACE}/0/bin/node`, `${PLACE}/1/x.js`])
})

test('a program right in a closed directory', () => {
  expect(exposePrograms(['/root/x.js'], closed('/root')).paths).toEqual([`${PLACE}/0/x.js`])
})
