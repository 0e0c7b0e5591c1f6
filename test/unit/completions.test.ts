import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { reasonCodes } from '../../src/calls/reasons.ts'
import { commands } from '../../src/cli/commands.ts'
import { FILES } from '../../src/cli/completion.ts'
import { keyNames, keys } from '../../src/policy/keys.ts'
import { noShell, SHELLS, type ShellName } from '../support/shells.ts'
import { withReason } from '../support/skipped.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/completions.js', import.meta.url))
const directories: string[] = []

/** Makes the files as the build does. */
function make(): string {
  const made = mkdtempSync(join(tmpdir(), 'intercede-completions-'))
  directories.push(made)
  const { status, stderr } = spawnSync(process.execPath, [SCRIPT, made], { encoding: 'utf8' })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return made
}

let directory = ''
const textOf = (shell: ShellName): string => readFileSync(join(directory, FILES[shell]), 'utf8')

beforeAll(() => {
  directory = make()
})
afterAll(() => {
  for (const made of directories) rmSync(made, { recursive: true })
})

/** How each shell writes the name of a long option. */
const SPELLED: Readonly<Record<ShellName, (name: string) => RegExp>> = {
  bash: (name) => new RegExp(`[( ]${name}[ )]`),
  zsh: (name) => new RegExp(`[*)']${name}=?\\[`),
  fish: (name) => new RegExp(` -l ${name.slice(2)} `),
}

describe.each(SHELLS)('the completion for %s', (shell) => {
  test('has each command, option, key and reason', () => {
    const text = textOf(shell)
    for (const command of commands) {
      expect(text).toContain(command.name())
      for (const { long } of command.options.filter(({ hidden }) => !hidden))
        expect(text).toMatch(SPELLED[shell](long!))
    }
    for (const word of [...keyNames, ...reasonCodes]) expect(text).toContain(word)
    expect(text).not.toMatch(/takes-over|\beval\b/)
  })

  test('is the same of two builds', () => {
    expect(readFileSync(join(make(), FILES[shell]), 'utf8')).toBe(textOf(shell))
  })

  const lacks = noShell(shell)
  test.skipIf(lacks)(withReason('can be read by it', lacks), () => {
    const { status, stderr } = spawnSync(shell, ['-n', join(directory, FILES[shell])], { encoding: 'utf8' })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })
})

test.each(keyNames)('what is offered for %s is a value of it', (name) => {
  const { offered, isList } = keys[name]
  for (const text of isList ? [...offered, offered.join(',')] : offered)
    expect(() => keys[name].canonical(text)).not.toThrow()
})
