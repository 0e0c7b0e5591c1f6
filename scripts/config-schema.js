// The JSON Schema of the configuration file, for editors: made from what config.ts checks a file with, and from the tables that
// explain its keys. It says which keys and types there are. What depends on another key, or on this host, only
// "intercede serve --check-config" knows.
import { toJsonSchema } from '@valibot/to-json-schema'

const plain = (text) => text.replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1').replaceAll('`', '')

/** The values that YAML may have for a policy key. */
function valuesOf({ isList, offered, allowed, default: standard }) {
  const scalar = { type: ['string', 'number', 'boolean'] }
  if (isList)
    return { anyOf: [scalar, { type: 'array', items: scalar }, { type: 'object', additionalProperties: scalar }] }
  if (standard === 'true' || standard === 'false')
    return { anyOf: [{ type: 'boolean' }, { enum: [...allowed.split(/, | or /), 0, 1] }] }
  return offered.length > 0 ? { enum: offered } : scalar
}

/** A map of policy keys, each by its short and its full name. */
const keyMap = (keys, fullName) => ({
  type: ['object', 'null'],
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
  properties.default = { description: properties.default.description, ...policy }
  properties.ceiling = { description: properties.ceiling.description, ...policy }
  const { description } = properties.profiles
  properties.profiles = { description, type: ['object', 'null'], additionalProperties: policy }
  const title = 'The configuration of the daemon of Intercede, intercede.yaml(5)'
  return { $schema, title, ...rest, properties, definitions: { keys: keyMap(keys, fullName) } }
}
