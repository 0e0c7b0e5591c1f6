import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { execute } from '../../support/host.ts'
import { unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

/** Follows docs/internals/add-a-syscall.md on a copy of the tree. */

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const PAGE = readFileSync(join(ROOT, 'docs/internals/add-a-syscall.md'), 'utf8')
const BUILT = ['src', 'bin', 'scripts', 'deploy', 'docs', 'examples', 'package.json', 'README.md', 'LICENSE']
const CONFIGURED = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json', 'node_modules']

/** A block of the page, and where it goes: a file of its own, or beside a line of one that is there. */
const BLOCKS = /^(?:New file `(\S+)`|In `(\S+)`, (after|before) `([^`]+)`):\n\n```ts\n([\s\S]*?)```$/gm

function follow(tree: string): number {
  const blocks = [...PAGE.matchAll(BLOCKS)]
  for (const [, made, changed, side, line, text] of blocks) {
    if (made !== undefined) {
      writeFileSync(join(tree, made), text!, { flag: 'wx' })
      continue
    }
    const file = join(tree, changed!)
    const parts = readFileSync(file, 'utf8').split(`${line}\n`)
    expect(parts.length, `${changed} has the line "${line}" once`).toBe(2)
    writeFileSync(file, parts.join(side === 'after' ? `${line}\n${text}` : `${text}${line}\n`))
  }
  return blocks.length
}

const cannot = unable() ?? missing('perl')

describe.skipIf(cannot)(withReason('the page that says how a system call is added', cannot), () => {
  const tree = mkdtempSync(join(tmpdir(), 'intercede-syscall-'))
  const intercede = join(tree, 'bin/intercede.js')
  const size = ['perl', '-e', `print syscall(${process.arch === 'x64' ? 103 : 116}, 10, 0, 0)`]

  beforeAll(async () => {
    for (const name of BUILT) cpSync(join(ROOT, name), join(tree, name), { recursive: true })
    for (const name of CONFIGURED) symlinkSync(join(ROOT, name), join(tree, name))
    expect(follow(tree)).toBeGreaterThan(10)
    const { status, stdout, stderr } = await execute('npm', ['--prefix', tree, 'run', '--silent', 'build'])
    expect(status, stdout + stderr).toBe(0)
  })
  afterAll(() => rmSync(tree, { recursive: true }))

  test('a call that is added so gives the container what it gives root of the host, and nothing without its key', async () => {
    const native = await execute(size[0]!, size.slice(1))
    expect(Number(native.stdout)).toBeGreaterThan(0)
    const run = (...words: readonly string[]) => execute(process.execPath, [intercede, 'run', ...words, '--', ...size])
    expect(await run('-c', 'syslog')).toMatchObject({ status: 0, stdout: native.stdout })
    expect((await run('-c', 'mknod')).stdout).toBe('-1')
  })
})
