import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../../src/policy/config.ts'
import { effectiveLimits } from '../../../src/policy/limits.ts'
import { execute } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { COMMANDS, flaws, pageOf } from '../../support/promises.ts'
import { sentencesOfHelp } from '../../support/sentences.ts'

const helpOf = (command: string) => execute(process.execPath, [CLI, ...(command ? [command] : []), '--help'])

describe('each sentence of a help text has a test that keeps it, or a reason why none does', () => {
  test.each(COMMANDS)('intercede %s --help', async (command) => {
    const { status, stdout } = await helpOf(command)
    expect(status).toBe(0)
    const page = pageOf(`intercede ${command} --help`, sentencesOfHelp(stdout), `help/${command || 'intercede'}`)
    expect(flaws(page)).toEqual([])
  })
})

test('the configuration that serve --help shows is one, with the defaults of what may be left out', async () => {
  const [, shown] = /All of it is optional:\n\n([\s\S]*?)\n\n\S/.exec((await helpOf('serve')).stdout)!
  const { limits, profiles, annotations, reload } = parseConfig(shown!, 'help')
  expect([...profiles.keys(), ...annotations.profiles, reload]).toEqual(['vpn', 'vpn', 'auto'])
  expect(limits).toEqual(effectiveLimits())
})

/** Without it crun makes the container's root the owner of the host's /dev/null. */
test('neither a help text nor a page leads to podman run without -i', async () => {
  const root = new URL('../../../', import.meta.url).pathname
  const pages = readdirSync(`${root}docs`, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'))
  const texts = [`${root}README.md`, ...pages.map((name) => `${root}docs/${name}`)].map((name) =>
    readFileSync(name, 'utf8'),
  )
  const helps = await Promise.all(COMMANDS.map(async (command) => (await helpOf(command)).stdout))
  const lines = [...texts, ...helps].flatMap((text) => text.match(/^ *(?:sudo )?podman run .*$/gm) ?? [])
  expect(lines.length).toBeGreaterThan(10)
  expect(lines.filter((line) => !/ -i | --interactive | \$\((?:sudo )?intercede flags podman /.test(line))).toEqual([])
})
