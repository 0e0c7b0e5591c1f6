import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { runtimes } from '../../../src/runtimes/known/index.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const names = runtimes.map(({ name }) => name)

test('every file of known/ is in the list, under the name of the file', () => {
  const files = readdirSync(`${root}src/runtimes/known`).filter((file) => file !== 'index.ts')
  expect(files.length).toBeGreaterThan(5)
  expect(names.map((name) => `${name}.ts`).sort()).toEqual(files.sort())
})

test.each(names)('docs/runtimes/README.md has a row for %s, with its page', (name) => {
  const rows = readFileSync(`${root}docs/runtimes/README.md`, 'utf8').matchAll(/^\| \[[^\]]+\]\((\S+)\) \|/gm)
  const pages = [...rows].map(([, page]) => page!).filter((page) => page.split(/[-.]/).includes(name))
  expect(pages).not.toEqual([])
  expect(pages.filter((page) => !existsSync(`${root}docs/runtimes/${page}`))).toEqual([])
})
