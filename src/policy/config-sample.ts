import { CONFIG_KEYS, type ConfigKeyName } from './config-keys.ts'

/** The column at which the words about a key begin. */
const COLUMN = 36
const indented = (text: string, indent: string): readonly string[] => text.split('\n').map((line) => `${indent}${line}`)

/** Shows a key with a value: the last part of its name, and the lines of a map below it. */
function keyLines(name: ConfigKeyName, value: string, words = ''): readonly string[] {
  const [member, section] = name.split('.').reverse() as [string, string?]
  const indent = section === undefined ? '' : '  '
  const isMap = /: /.test(value)
  const line = `${indent}${member}:${isMap ? '' : ` ${value}`}`
  const head = words === '' ? line : `${line.padEnd(COLUMN)}# ${words}`
  return [head, ...(isMap ? indented(value, `${indent}  `) : [])]
}

const sectionOf = (name: string): string | undefined => (name.includes('.') ? name.split('.')[0] : undefined)

/** Shows a key alone, in its section. */
export const exampleOf = (name: ConfigKeyName): string => {
  const section = sectionOf(name)
  return [...(section === undefined ? [] : [`${section}:`]), ...keyLines(name, CONFIG_KEYS[name].example)].join('\n')
}

/** Shows a configuration with every key: what usually holds, or else an example. */
export function sampleConfig(): readonly string[] {
  let last: string | undefined
  return Object.entries(CONFIG_KEYS).flatMap(([name, key]) => {
    const section = sectionOf(name)
    const head = section === undefined || section === last ? [] : [`${section}:`]
    last = section
    const { usually, example, help }: { usually?: string; example: string; help: string } = key
    return [...head, ...keyLines(name as ConfigKeyName, usually ?? example, help)]
  })
}
