import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const src = new URL('../../src', import.meta.url).pathname

/** Imports point downwards in this list; within a folder they are free. */
const folders = [
  'cli',
  'daemon',
  'runtimes',
  'engine',
  'syscalls',
  'verbs',
  'caller',
  'filter',
  'calls',
  'policy',
  'kernel',
  'abi',
]

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))

interface Import {
  readonly from: string
  readonly to: string
}

function importsOf(file: string): readonly Import[] {
  const text = readFileSync(join(src, file), 'utf8')
  return [...text.matchAll(/(?:from|import\() ?'([^']+)'/g)].map(([, to]) => ({
    from: file,
    to: to!.startsWith('.') ? relative(src, resolve(src, file, '..', to!)) : to!,
  }))
}

const imports = files.flatMap(importsOf)
const level = (file: string): number => folders.indexOf(file.split('/')[0]!)

test('every file lies in a known folder, but for the public names', () => {
  expect(files.filter((file) => level(file) < 0)).toEqual(['index.ts'])
})

test('imports point downwards', () => {
  const inside = imports.filter(({ from, to }) => from !== 'index.ts' && level(to) >= 0)
  expect(inside.length).toBeGreaterThan(200)
  expect(inside.filter(({ from, to }) => level(to) < level(from))).toEqual([])
})

test('the launcher stands on the rest of runtimes/, which imports nothing of it', () => {
  const isLauncher = (file: string): boolean => file.startsWith('runtimes/launch/')
  const rest = imports.filter(({ from }) => from.startsWith('runtimes/') && !isLauncher(from))
  expect(rest.length).toBeGreaterThan(20)
  expect(rest.filter(({ to }) => isLauncher(to))).toEqual([])
})

test('only its own file calls a runtime by its name: all else goes by the list of them', () => {
  const isKnown = (file: string): boolean => file.startsWith('runtimes/known/')
  const names = files.filter(isKnown).map((file) => basename(file, '.ts'))
  // LXC is a format of profiles and a protocol too.
  const named = new RegExp(`['"](${names.filter((name) => name !== 'index' && name !== 'lxc').join('|')})['"]`)
  const naming = files.filter((file) => named.test(readFileSync(join(src, file), 'utf8')))
  expect(naming.length).toBeGreaterThan(5)
  expect(naming.filter((file) => !isKnown(file))).toEqual([])
})

test('only kernel/ imports koffi', () => {
  const users = imports.filter(({ to }) => to === 'koffi').map(({ from }) => from)
  expect(users.length).toBeGreaterThan(0)
  expect(users.filter((from) => !from.startsWith('kernel/'))).toEqual([])
})

test('only kernel/clock.ts asks for the time that passes', () => {
  const asks = files.filter((file) => /\bperformance\./.test(readFileSync(join(src, file), 'utf8')))
  expect(asks).toEqual(['kernel/clock.ts'])
})

test('only cli/ writes to standard output or ends the process by Node', () => {
  const offenders = files.filter((file) => !file.startsWith('cli/'))
  const printing = /console\.(log|error|warn)|process\.stdout\.write|process\.exit\(/
  expect(
    offenders.filter((file) =>
      printing.test(readFileSync(join(src, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\//g, '')),
    ),
  ).toEqual([])
})
