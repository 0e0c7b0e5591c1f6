// The JSON Schemas of the configuration file and of policy tests, for editors: made from what checks these files, and from the
// tables that explain their keys. They say which keys and types there are. What depends on another key, or on this host, only
// "intercede serve --check-config" knows.
import { toJsonSchema } from '@valibot/to-json-schema'

const plain = (text) => text.replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1').replaceAll('`', '')

/** The values that YAML may have for a policy key. */
function valuesOf({ isList, offered, allowed, default: standard }) {
  const scalar = { type: ['string', 'number', 'boolean'] }
  if (isList)
    return { anyOf: [scalar, { type: 'array', items: scalar }, { type: 'object', additionalProperties: scalar }] }
  const [, least, most] = /from (-?\d+) to (-?\d+)/.exec(allowed) ?? []
  if (most !== undefined)
    return {
      anyOf: [
        { type: 'integer', minimum: Number(least), maximum: Number(most) },
        { pattern: '^-?[0-9]+$', type: 'string' },
      ],
    }
  if (offered.length === 0) return scalar
  // In any case, as the daemon reads them.
  const words = allowed
    .split(/, | or /)
    .map((word) => word.replaceAll(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`))
  const text = { type: 'string', pattern: `^ *(${words.join('|')}) *$` }
  return standard === 'true' || standard === 'false' ? { anyOf: [{ type: 'boolean' }, { enum: [0, 1] }, text] } : text
}

/** A map of policy keys, each by its short and its full name. */
const keyMap = (keys, fullName) => ({
  type: 'object',
  additionalProperties: false,
  properties: Object.fromEntries(
    Object.entries(keys).flatMap(([name, key]) => {
      const about = { description: `${key.help}. Default: ${key.default || 'none'}`, ...valuesOf(key) }
      return [name, fullName(name)].map((each) => [each, about])
    }),
  ),
})

/** @param parts the file's schema of valibot, the table of its keys, the table of policy keys, and the name of a key in full */
export function configSchema({ ConfigFile, CONFIG_KEYS, keys, fullName }) {
  const schema = toJsonSchema(ConfigFile, { errorMode: 'ignore' })
  const { $schema, properties, ...rest } = schema
  for (const [name, { says }] of Object.entries(CONFIG_KEYS)) {
    const [section, member] = name.split('.')
    const holder =
      member === undefined ? properties : properties[section].anyOf.find(({ type }) => type === 'object').properties
    holder[member ?? section].description = `${plain(says)}.`
  }
  const policy = { $ref: '#/definitions/keys' }
  for (const name of ['default', 'ceiling'])
    properties[name] = { description: properties[name].description, anyOf: [policy, { type: 'null' }] }
  const { description } = properties.profiles
  properties.profiles = { description, type: ['object', 'null'], additionalProperties: policy }
  const title = 'The configuration of the daemon of Intercede, intercede.yaml(5)'
  return { $schema, title, ...rest, properties, definitions: { keys: keyMap(keys, fullName) } }
}

/** @param parts the schema of valibot of a file of policy tests, the table of policy keys, and the name of a key in full */
export function policyTestSchema({ PolicyTestFile, keys, fullName }) {
  const { $schema, properties, ...rest } = toJsonSchema(PolicyTestFile, { errorMode: 'ignore' })
  const { description } = properties.policy
  const title = 'Policy tests of Intercede, for "intercede test"'
  const policy = { description, $ref: '#/definitions/keys' }
  Object.assign(properties.tests.items, { required: ['call', 'expect'] })
  for (const each of [properties.tests, ...Object.values(properties.tests.items.properties)]) delete each.default
  const all = { ...properties, policy }
  const definitions = { keys: keyMap(keys, fullName) }
  return { $schema, title, ...rest, properties: all, required: ['tests'], definitions }
}
