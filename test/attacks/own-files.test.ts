// The daemon is root and becomes whatever its files are: it does not start if others may change them, fs/namei.c inode_permission().
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'intercede-own-'))
const installed = join(directory, 'installed')
const config = join(directory, 'etc', 'config.yaml')
const SOMEBODY = 1000

beforeAll(() => chmodSync(directory, 0o755))
beforeEach(() => {
  for (const part of [installed, join(directory, 'etc')]) rmSync(part, { recursive: true, force: true })
  mkdirSync(join(directory, 'etc'))
  writeFileSync(config, 'default: { mknod: true }\n')
  mkdirSync(installed)
  for (const part of ['bin', 'dist', 'package.json'])
    cpSync(join(ROOT, part), join(installed, part), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(installed, 'node_modules'))
})
afterAll(() => rmSync(directory, { recursive: true }))

/** It serves until it is told to end, if it starts. */
function serve(): { readonly started: boolean; readonly says: string } {
  const socket = ['--socket', join(directory, 'oci.sock')]
  const args = [join(installed, 'bin/intercede.js'), 'serve', ...socket, '--config', config]
  const { stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 5000 })
  return { started: stderr.includes('"message":"serving"'), says: stderr }
}
const cli = (...args: readonly string[]) =>
  spawnSync(process.execPath, [join(installed, 'bin/intercede.js'), ...args], { encoding: 'utf8' })

describe('serve', () => {
  test('starts with files of root', () => expect(serve()).toMatchObject({ started: true }))

  test('starts in a directory that everybody may write to, but with the sticky bit', () => {
    chmodSync(directory, 0o1777)
    expect(serve()).toMatchObject({ started: true })
    chmodSync(directory, 0o755)
  })

  const cases: readonly (readonly [what: string, path: string, spoil: (path: string) => void, says: string])[] = [
    [
      'a checkout of somebody else',
      installed,
      (path) => chownSync(path, SOMEBODY, SOMEBODY),
      'belongs to user 1000: chown root',
    ],
    [
      'a module that everybody may write',
      join(installed, 'dist/engine/main.js'),
      (path) => chmodSync(path, 0o666),
      'everybody',
    ],
    [
      'a module of somebody else',
      join(installed, 'dist/verbs/mknod.js'),
      (path) => chownSync(path, SOMEBODY, 0),
      'user 1000',
    ],
    [
      'a directory of modules that a group may write',
      join(installed, 'dist/kernel'),
      (path) => chmodSync(path, 0o775),
      'its group',
    ],
    ['a directory above it', directory, (path) => chmodSync(path, 0o777), 'everybody'],
    ['what is started', join(installed, 'bin/intercede.js'), (path) => chmodSync(path, 0o777), 'everybody'],
    ['its package.json', join(installed, 'package.json'), (path) => chmodSync(path, 0o666), 'everybody'],
    ['its configuration', config, (path) => chmodSync(path, 0o664), 'its group: chmod go-w'],
    ['the directory of its configuration', join(directory, 'etc'), (path) => chownSync(path, SOMEBODY, 0), 'user 1000'],
  ]
  test.each(cases)('does not start with %s', (_, path, spoil, says) => {
    spoil(path)
    const said = serve()
    chmodSync(directory, 0o755)
    expect(said).toEqual({
      started: false,
      says: expect.stringContaining(`Cannot serve, since others could change what it runs: ${JSON.stringify(path)} `),
    })
    expect(said.says).toContain(says)
  })
})

test('doctor names them, and run says so at the end', () => {
  chownSync(join(installed, 'dist'), SOMEBODY, SOMEBODY)
  expect(cli('doctor').stdout).toMatch(
    /missing +intercede's own files: others could change what it runs: "[^"]*dist" belongs to user 1000/,
  )
  expect(cli('run', '--', 'true').stderr).toContain('intercede: others could change what it runs: ')
})
