import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parseConfig } from '../../../src/policy/config.ts'
import { CONFIG_KEYS, type ConfigKeyName, exampleOf, sampleConfig } from '../../../src/policy/config-keys.ts'
import { effectiveLimits } from '../../../src/policy/limits.ts'

/** A profile that another key names must be there. */
const surroundings = (name: ConfigKeyName): string =>
  name === 'annotations.profiles' || name === 'nri.namespaces' ? `${exampleOf('profiles')}\n` : ''

test.each(Object.keys(CONFIG_KEYS) as ConfigKeyName[])(
  'the example of %s is a configuration, and not the usual one',
  (name) => {
    const usual = parseConfig(surroundings(name), 'usual')
    expect(parseConfig(`${surroundings(name)}${exampleOf(name)}`, 'example')).not.toEqual(usual)
  },
)

const usualOf = parseConfig('profiles:', 'x')

test('the sample is a configuration with what is usual, where something is', () => {
  const { log, metrics, reload, limits, annotations, profiles } = parseConfig(sampleConfig().join('\n'), 'sample')
  expect({ log, metrics, reload }).toEqual({ log: usualOf.log, metrics: usualOf.metrics, reload: usualOf.reload })
  expect(limits).toEqual(effectiveLimits())
  expect([...annotations.raise, ...annotations.profiles, ...profiles.keys()]).toEqual(['vpn', 'vpn'])
})

test('the file of the package says nothing, and without the marks of its comments what the sample says', () => {
  const text = readFileSync(new URL('../../../deploy/config.yaml', import.meta.url), 'utf8')
  expect(parseConfig(text, 'file')).toEqual(usualOf)
  const plain = text.replaceAll(/^#(?! )/gm, '')
  const read = parseConfig(plain.replaceAll(/^#( {2}.*)$/gm, '$1'), 'x.yaml')
  expect(read.limits).toEqual(effectiveLimits())
  expect([...read.profiles.keys(), ...read.ceiling.keys()]).toEqual(['vpn', 'mount.fuse'])
})

test.each(Object.entries(CONFIG_KEYS))(
  '%s: what is allowed stands in the error of what is not',
  (name, { allowed }) => {
    const wrong = name.includes('.') ? name.replace('.', ': { ').concat(': { a: { b: [] } } }') : `${name}: 7`
    const [first] = allowed.split(' from ')
    // What a list may have in it is another question.
    const said = /^a (map of )?list/.test(allowed) ? 'a list' : first!
    expect(() => parseConfig(wrong, 'x.yaml')).toThrow(`allowed is ${said}`)
  },
)
