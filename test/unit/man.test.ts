import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { reasonCodes } from '../../src/calls/reasons.ts'
import { commands } from '../../src/cli/commands.ts'
import { CONFIG_KEYS, exampleOf, sampleConfig } from '../../src/policy/config-keys.ts'
import { keyNames, keys } from '../../src/policy/keys.ts'
import { missing } from '../support/fixtures.ts'
import { withReason } from '../support/skipped.ts'

const MAN = fileURLToPath(new URL('../../scripts/man.js', import.meta.url))
const EPOCH = { SOURCE_DATE_EPOCH: '1700000000' }
const noMandoc = missing('mandoc')
const noMan = missing('man')

const directories: string[] = []
let directory = ''
/** Makes the pages as the build does. */
function make(): string {
  const made = mkdtempSync(join(tmpdir(), 'intercede-man-'))
  directories.push(made)
  const { status, stderr } = spawnSync(process.execPath, [MAN, made], {
    encoding: 'utf8',
    env: { ...process.env, ...EPOCH },
  })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return made
}
const pages = () => readdirSync(directory)
/** A page as a reader sees it. */
const shown = (page: string): string =>
  spawnSync('mandoc', ['-T', 'utf8', '-O', 'width=1000', join(directory, page)], { encoding: 'utf8' })
    .stdout.split('\b')
    .map((part, index, parts) => (index < parts.length - 1 ? part.slice(0, -1) : part))
    .join('')
    .replaceAll(/\s+/g, ' ')

beforeAll(() => {
  directory = make()
})
afterAll(() => {
  for (const made of directories) rmSync(made, { recursive: true })
})

test('there is a page for the program, for each command, for the configuration, for policies and for reasons', () => {
  const names = [
    'intercede.1',
    'intercede.yaml.5',
    'intercede-policy.7',
    'intercede-reasons.7',
    ...commands.map((each) => `intercede-${each.name()}.1`),
  ]
  expect(pages().sort()).toEqual(names.sort())
})

test('two builds make equal pages', () => {
  const again = make()
  for (const page of pages())
    expect(readFileSync(join(again, page), 'utf8')).toBe(readFileSync(join(directory, page), 'utf8'))
})

describe.skipIf(noMandoc)(withReason('to mandoc', noMandoc), () => {
  /** It looks for pages that another one names among those that are installed: ours are here. */
  const isHere = (line: string): boolean => {
    const [, name, volume] = /STYLE: referenced manual not found: Xr (\S+) (\d)/.exec(line) ?? []
    return name !== undefined && pages().includes(`${name.replaceAll('\\-', '-')}.${volume}`)
  }

  test('no page has a fault, nor a flaw of style', () => {
    for (const page of pages()) {
      const { stdout } = spawnSync('mandoc', ['-T', 'lint', join(directory, page)], { encoding: 'utf8' })
      expect(stdout.split('\n').filter((line) => line !== '' && !isHere(line))).toEqual([])
    }
  })

  test('each option of a command is on its page, with the words of its help', () => {
    for (const command of commands) {
      const page = shown(`intercede-${command.name()}.1`)
      for (const { flags, description } of command.options.filter(({ hidden }) => !hidden)) {
        expect(page).toContain(flags)
        expect(page.toLowerCase()).toContain(description.replaceAll(/\s+/g, ' ').toLowerCase())
      }
    }
  })

  test('each key of the configuration is on its page with what is allowed, what is usual and an example', () => {
    const page = shown('intercede.yaml.5')
    for (const [name, key] of Object.entries(CONFIG_KEYS)) {
      const usually = 'usually' in key ? key.usually : 'none'
      expect(page).toContain(` ${name} `)
      expect(page).toContain(`Allowed: ${key.allowed}. Default: ${usually === '[]' ? 'none' : usually}. For example:`)
      expect(page).toContain(`For example: ${exampleOf(name as keyof typeof CONFIG_KEYS).replaceAll(/\s+/g, ' ')} `)
    }
    for (const line of sampleConfig()) expect(page).toContain(line.replaceAll(/\s+/g, ' '))
  })

  test('each key and each reason is on its page', () => {
    const [policy, reasons] = [shown('intercede-policy.7'), shown('intercede-reasons.7')]
    for (const key of keyNames) {
      expect(policy).toContain(`security.syscalls.intercept.${key} `)
      expect(policy).toContain(`Allowed: ${keys[key].allowed}. Default: ${keys[key].default || 'none'}.`)
    }
    for (const code of reasonCodes) expect(reasons).toContain(` ${code} `)
  })
})

test.skipIf(noMan)(withReason('man(1) shows each page without a warning', noMan), () => {
  for (const page of pages()) {
    const { stderr, stdout } = spawnSync('man', ['--warnings=all', '-l', join(directory, page)], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    })
    expect(stderr).toBe('')
    expect(stdout.length).toBeGreaterThan(500)
  }
})
