import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parseConfig } from '../../../src/policy/config.ts'
import { effectiveLimits } from '../../../src/policy/limits.ts'
import { execute } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

/** The commands; the first is `intercede` alone. */
const COMMANDS: readonly string[] = [
  ...['', 'run', 'serve', 'profile', 'flags', 'doctor', 'ps', 'inspect', 'events', 'top', 'explain', 'metrics', 'api'],
  ...['set', 'reload', 'status', 'stop', 'test', 'web', 'completion'],
]

const helpOf = (command: string) => execute(process.execPath, [CLI, ...(command ? [command] : []), '--help'])

test.each(COMMANDS)('intercede %s --help exits with 0', async (command) => {
  const { status, stdout } = await helpOf(command)
  expect({ status, usage: /^Usage: intercede/.test(stdout) }).toEqual({ status: 0, usage: true })
})

test('the configuration that serve --help shows is one, with the defaults of what may be left out', async () => {
  const [, shown] = /All of it is optional:\n\n([\s\S]*?)\n\n\S/.exec((await helpOf('serve')).stdout)!
  const { limits, profiles, annotations, reload } = parseConfig(shown!, 'help')
  expect([...profiles.keys(), ...annotations.profiles, reload]).toEqual(['vpn', 'vpn', 'auto'])
  expect(limits).toEqual(effectiveLimits())
})

/** Without it crun makes the container's root the owner of the host's /dev/null. */
test('neither a help text nor a page leads to podman run without -i', async () => {
  const root = fileURLToPath(new URL('../../../', import.meta.url))
  const pages = readdirSync(`${root}docs`, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'))
  const texts = [`${root}README.md`, ...pages.map((name) => `${root}docs/${name}`)].map((name) =>
    readFileSync(name, 'utf8'),
  )
  const helps = await Promise.all(COMMANDS.map(async (command) => (await helpOf(command)).stdout))
  const lines = [...texts, ...helps].flatMap((text) => text.match(/^ *(?:sudo )?podman run .*$/gm) ?? [])
  expect(lines.length).toBeGreaterThan(10)
  expect(lines.filter((line) => !/ -i | --interactive | \$\((?:sudo )?intercede flags podman /.test(line))).toEqual([])
})
