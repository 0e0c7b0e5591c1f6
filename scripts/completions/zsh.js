// The completion for zsh: its own functions do the work, by tables of what a command takes.
import { allQuoted, commands, grouped, keys, options, PREFIX, quoted, WHOM } from './model.js'

/** A text inside the brackets of a specification, or before a colon. */
const inSpec = (text) => text.replaceAll(/[[\]:\\]/g, '\\$&')

const LIST = `#compdef intercede
# zsh completion for intercede, made by scripts/completions.js of the build

# What a daemon or a file knows, each one plain word with what it is; and more words.
_intercede_list() {
  local line name what=$1
  local -a listed whom
  shift
  for name in ${WHOM.valued.join(' ')}; do [[ -z $opt_args[$name] ]] || whom+=($name "\${(Q)opt_args[$name]}"); done
  for name in ${WHOM.alone.join(' ')}; do (( ! $+opt_args[$name] )) || whom+=($name); done
  for line in "\${(@f)$(command intercede completion --list $what --begun "$PREFIX" "$whom[@]" 2>/dev/null)}"; do
    [[ -z $line ]] || listed+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${\${line#*$'\\t'}//\\\\/\\\\\\\\}")
  done
  (( $# == 0 )) || compadd -- "$@"
  _describe -t listed $what listed
}
`

const described = ({ name, says }, long = '') => quoted(`${long}${name}:${says}`)
const nameArrays = (all, indent) => all.map((each) => `${indent}${described(each)}`).join('\n')
const alone = keys.filter(({ isAlone }) => isAlone)
const others = keys.filter(({ isAlone }) => !isAlone)
const cases = grouped(
  keys.filter(({ offered }) => offered.length > 0),
  ({ offered, isList }) => `${isList ? "compset -P '*,'; compadd -qS ,  --" : 'compadd --'} ${allQuoted(offered)}`,
)
const KEYS = `# A key has its short name, or its long one if that has been begun.
_intercede_names() {
  local long=
  local -a alone=(
${nameArrays(alone, '    ')}
  ) others=(
${nameArrays(others, '    ')}
  )
  [[ $PREFIX != sec* ]] || long=${PREFIX}
  alone=($long$^alone) others=($long$^others)
  _describe -t keys key alone -- others "$@"
}

_intercede_keys() {
  local name=\${\${PREFIX%%=*}#${PREFIX}}
  if [[ $PREFIX != *=* ]]; then
    _intercede_names -S =
    return
  fi
  compset -P 1 '*='
  case $name in
${cases.map(([does, same]) => `    (${same.map(({ name }) => quoted(name)).join('|')}) ${does} ;;`).join('\n')}
  esac
}
`

/** The end of a specification; what begins with a blank is called as it is. */
const ACTIONS = {
  nothing: () => ' ',
  files: () => '_files',
  directories: () => '_files -/',
  words: ({ words }) => `(${words.join(' ')})`,
  variables: () => '_parameters -g "*export*"',
  names: () => ' _intercede_names',
  keys: () => ' _intercede_keys',
  command: () => ' _command_names -e',
  containers: ({ words = [] }) => ` _intercede_list ${['containers', ...words].join(' ')}`,
  live: () => ' _intercede_list live',
  runs: () => ' _intercede_list runs',
  profiles: () => ' _intercede_list profiles',
}
const actionOf = (value) => ACTIONS[value.from](value)

/** A long option takes its value behind a blank or an equals sign, and so does a short one. */
const withValue = (name) => (name.startsWith('--') ? `${name}=` : `${name}+`)

const optionSpecs = ({ names, says, value, placeholder, optional }) =>
  names.map((name) => {
    const rest = `[${inSpec(says)}]`
    if (value === undefined) return quoted(`(${names.join(' ')})${name}${rest}`)
    const end = `${inSpec(placeholder)}:${actionOf(value)}`
    return quoted(optional ? `${name}${rest}::${end}` : `*${withValue(name)}${rest}:${end}`)
  })

const operandSpecs = ({ name, repeats, value }, index) =>
  value.from === 'command'
    ? [quoted(`(-)1:${name}:${actionOf(value)}`), quoted('*::argument: _normal')]
    : [quoted(`${repeats ? '*' : index + 1}:${inSpec(name)}:${actionOf(value)}`)]

const specsOf = (command) => [...command.options.flatMap(optionSpecs), ...command.operands.flatMap(operandSpecs)]
const commandCase = (command) =>
  `        (${command.name}) _arguments -S : \\\n${specsOf(command)
    .map((spec) => `          ${spec}`)
    .join(' \\\n')} ;;`

const MAIN = `_intercede() {
  local curcontext=$curcontext context state state_descr line
  local -A opt_args
  local -a all=(
${nameArrays(commands, '    ')}
  )
  _arguments -C \\
${options
  .flatMap(({ names, says }) => names.map((name) => `    ${quoted(`(- *)${name}[${inSpec(says)}]`)} \\`))
  .join('\n')}
    '1: :->command' '*:: :->rest' && return
  case $state in
    (command) _describe -t commands command all ;;
    (rest)
      case $words[1] in
${commands.map(commandCase).join('\n')}
      esac
      ;;
  esac
}

if [[ $funcstack[1] == _intercede ]]; then _intercede "$@"; else compdef _intercede intercede; fi
`

export const zsh = [LIST, KEYS, MAIN].join('\n')
