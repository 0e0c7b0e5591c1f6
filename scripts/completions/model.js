// What may stand at each place of a command line, from the objects that the help is made of: for the files of all shells.

const module = (path) => new URL(`../../out/${path}`, import.meta.url).href
const { Command } = await import('commander')
const { capabilities } = await import(module('abi/credentials.js'))
const { reasons } = await import(module('calls/reasons.js'))
const { commands: all } = await import(module('cli/commands.js'))
const { FORMATS } = await import(module('cli/formats.js'))
const { PREFIX } = await import(module('policy/key.js'))
const { keyNames } = await import(module('policy/keys.js'))
const { keys: table } = await import(module('policy/keys.js'))

const nothing = { from: 'nothing' }
const files = { from: 'files' }
const words = (list) => ({ from: 'words', words: list })
const reasonWords = Object.keys(reasons)

/** What an option or operand takes, by what the help calls its value, or by its command and its own name if it is unlike others. */
const BY_NAME = {
  ...Object.fromEntries(
    ['file', 'path', 'path[:path]', 'path[:path][:ro][:idmap]', 'file...'].map((name) => [name, files]),
  ),
  dir: { from: 'directories' },
  ...Object.fromEntries(['key=value', 'KEY[=VALUE]', 'key=value...'].map((name) => [name, { from: 'keys' }])),
  key: { from: 'names' },
  'run --env': { from: 'variables' },
  'profile --profile': { from: 'profiles' },
  'flags --profile': { from: 'profiles' },
  'advise --profile': nothing,
  'explain --profile': { from: 'profiles' },
  'test --profile': { from: 'profiles' },
  'flags --annotation': nothing,
  cap: words(capabilities),
  container: { from: 'containers' },
  'container or reason': { from: 'containers', words: reasonWords },
  'set container': { from: 'live' },
  'stop container': { from: 'runs' },
  command: { from: 'command' },
  ...Object.fromEntries(
    ['size', 'name', 'uid[:gid]', 'address:port', 'seconds', 'time', 'cursor', 'number', 'filter', 'id', 'call'].map(
      (name) => [name, nothing],
    ),
  ),
}

/** @throws {Error} if it is not known what stands there: a new option is to be completed too */
function taken(command, called, placeholder, { argChoices }) {
  if (argChoices) return words(argChoices)
  if (placeholder === 'format') return words(FORMATS[command].words)
  const value = BY_NAME[`${command} ${called}`] ?? BY_NAME[placeholder]
  if (value === undefined)
    throw new Error(
      `Cannot complete "${command} ${called}": scripts/completions/model.js does not know <${placeholder}>`,
    )
  return value
}

const inOneLine = (says) => says.replaceAll(/\s+/g, ' ').trim()

/** What stands in the brackets behind the names of an option. */
const placeholderOf = ({ flags }) => /[<[](.*?)(?:\.\.\.)?[>\]]$/.exec(flags)?.[1]

function optionOf(command, option) {
  const placeholder = placeholderOf(option)
  return {
    names: [option.short, option.long].filter(Boolean),
    says: inOneLine(option.description),
    // commander takes brackets inside of a placeholder for an option without a value.
    optional: option.optional && !option.required,
    ...(placeholder === undefined ? {} : { placeholder, value: taken(command, option.long, placeholder, option) }),
  }
}

const operandOf = (command, argument) => ({
  name: argument.name(),
  repeats: argument.variadic,
  value: taken(command, argument.name(), argument.name().replace(/\.\.\.$/, ''), argument),
})

const describe = (command) => {
  const help = command.createHelp()
  return {
    name: command.name(),
    says: inOneLine(command.description()),
    options: help.visibleOptions(command).map((each) => optionOf(command.name(), each)),
    operands: command.registeredArguments.map((each) => operandOf(command.name(), each)),
  }
}

const program = new Command('intercede').version('').enablePositionalOptions()
for (const each of all) program.addCommand(each)
const listed = program.createHelp().visibleCommands(program)

const helpCommand = {
  name: 'help',
  says: 'display help for a command',
  options: [],
  operands: [{ name: 'command', repeats: false, value: words(listed.map((each) => each.name())) }],
}

/** The options before a command, and the commands in the order of the help. */
export const options = program
  .createHelp()
  .visibleOptions(program)
  .map((each) => optionOf('', each))
export const commands = [...all.map(describe), helpCommand]

/** The keys of a policy: which mean something alone, and what is offered behind an equals sign. */
export const keys = keyNames.map((name) => ({
  name,
  says: table[name].help,
  isAlone: table[name].offered.includes('true'),
  isList: table[name].isList,
  offered: table[name].offered,
}))
export { PREFIX }

/** Puts what has the same text together, so that a shell has one case for it. */
export function grouped(list, textOf) {
  const groups = new Map()
  for (const each of list) groups.set(textOf(each), [...(groups.get(textOf(each)) ?? []), each])
  return [...groups]
}

/** A word of a shell's source that stands for a text as it is. */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)
export const allQuoted = (texts) => texts.map(quoted).join(' ')

/** The options that say whom to ask for what is listed: those with a value, and those without. */
export const WHOM = { valued: ['--feed', '--daemon-config'], alone: ['--user'] }

/** The options of a command that take a value. */
export const valued = ({ options: all }) => all.filter(({ value }) => value)
