import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type PolicyOptions, wantedPolicy } from '../../../src/cli/wanted-policy.ts'

let directory: string
let daemonConfig: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'intercede-ceiling-'))
  daemonConfig = file(
    'config.yaml',
    'profiles: { plain: { mknod: true }, more: { mknod: true, mknod.devices: "c:10:200,c:10:229" } }\n' +
      'ceiling: { mknod.devices: c:10:200, sysinfo: false }\n',
  )
})
afterAll(() => rmSync(directory, { recursive: true }))

const file = (name: string, text: string): string => {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}
const above = (who: string, key: string, asked: string, ceiling: string) => [
  expect.stringMatching(`^security\\.\\S+\\.${key}: ${who} asks for "${asked}", and its ceiling is "${ceiling}", so "`),
]

test.each<[PolicyOptions, unknown]>([
  [{ profile: 'plain' }, []],
  [{ profile: 'plain', config: ['mknod.devices=c:10:200'] }, []],
  [{ profile: 'more' }, above('profile more', 'mknod.devices', 'c:10:200,c:10:229', 'c:10:200')],
  [{ profile: 'plain', config: ['sysinfo'] }, above('metadata', 'sysinfo', 'true', 'false')],
  [{ profile: 'plain', trap: ['sysinfo'] }, above('the command line', 'sysinfo', 'true', 'false')],
  // Without a profile, an annotation lets name the configuration.
  [{ config: ['sysinfo'], annotation: [] }, above('the command line', 'sysinfo', 'true', 'false')],
  [{ config: ['mknod'], annotation: [] }, []],
])('what a ceiling of the configuration lowers is said, in words: %j', (options, expected) => {
  expect(wantedPolicy({ ...options, daemonConfig }).ineffective).toEqual(expected)
})

test('a configuration that cannot be read may have a ceiling, in words', () => {
  const wrong = file('wrong.yaml', 'wrong')
  expect(wantedPolicy({ config: ['mknod'], annotation: [], daemonConfig: wrong }).ineffective).toEqual([
    expect.stringMatching(/^whether a ceiling .* lowers that is not known: Cannot read policy ".*wrong\.yaml"/),
  ])
})
