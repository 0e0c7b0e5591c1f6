import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { execute } from '../../support/host.ts'

const dist = (file: string): string => fileURLToPath(new URL(`../../../dist/${file}`, import.meta.url))

test.each([
  { what: 'the walker', args: [dist('walker/main.js'), 'another'] },
  { what: 'the engine', args: [dist('engine/main.js'), '{"build":"another"}'] },
])('$what refuses to work for another build', async ({ args }) => {
  const done = await execute(process.execPath, args)
  expect(done.status).not.toBe(0)
  expect(done.stderr).toMatch(/Cannot serve build another: the files are now of build [0-9a-f]{16}; restart intercede/)
})
