// The completion for bash, which needs no other package. Nothing that was typed or is listed is evaluated.
import { allQuoted, commands, grouped, keys, options, PREFIX, quoted, valued, WHOM } from './model.js'

const HELPERS = `# bash completion for intercede, made by scripts/completions.js of the build

# Finds the words up to the cursor: bash has cut them at characters such as = and :, and they are joined again. "starts" has
# the number of the first word of bash for each.
_intercede_words() {
  local i word rest=\${COMP_LINE:0:COMP_POINT}
  words=() starts=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if ((i == 0)) || [[ $rest == [[:blank:]]* ]]; then
      rest=\${rest#"\${rest%%[![:blank:]]*}"}
      words+=('') starts+=("$i")
    fi
    ((i < COMP_CWORD)) || word=$rest
    words[\${#words[@]} - 1]+=$word
    rest=\${rest#"$word"}
  done
}

_intercede_offer() {
  local word
  for word; do [[ $word != "$cur"* ]] || COMPREPLY+=("$word"); done
}

# What a daemon or a file knows; each is one plain word.
_intercede_list() {
  local word _
  while IFS=$'\\t' read -r word _; do
    _intercede_offer "$word"
  done < <(command intercede completion --list "$1" --begun "$cur" "\${whom[@]}" 2>/dev/null)
}

_intercede_files() { compopt -o bashdefault -o default 2>/dev/null; }

_intercede_directories() { compopt -o dirnames 2>/dev/null; }

# A command and its arguments, as they are completed without intercede before them.
_intercede_command() {
  if declare -F _comp_command_offset >/dev/null; then
    _comp_command_offset "\${starts[first]}"
  elif declare -F _command_offset >/dev/null; then
    _command_offset "\${starts[first]}"
  elif ((operand == 0)) && [[ $cur != */* ]]; then
    mapfile -t COMPREPLY < <(compgen -c -- "$cur")
  else
    _intercede_files
  fi
}
`

const alone = keys.filter(({ isAlone }) => isAlone).map(({ name }) => name)
const others = keys.filter(({ isAlone }) => !isAlone).map(({ name }) => name)

/** In a list what stands before the last comma stays. */
const LISTED = ` before+=\${value%"\${value##*,}"}`
/** Keys with the same offers are one case. */
const cases = grouped(
  keys.filter(({ offered }) => offered.length > 0),
  ({ offered, isList }) => `offered=(${allQuoted(offered)})${isList ? LISTED : ''}`,
)
const KEYS = `# A key has its short name, or its long one if that has been begun.
_intercede_names() {
  local name long=
  [[ $cur != sec* ]] || long=${PREFIX}
  for name; do _intercede_offer "$long$name"; done
}

_intercede_keys() {
  if [[ $cur != *=* ]]; then
    _intercede_names ${allQuoted(alone)} ${allQuoted(others.map((name) => `${name}=`))}
    return
  fi
  local word name=\${cur%%=*} value=\${cur#*=} before=\${cur%%=*}= offered=()
  case \${name#${PREFIX}} in
${cases.map(([does, same]) => `    ${same.map(({ name }) => quoted(name)).join(' | ')}) ${does} ;;`).join('\n')}
  esac
  for word in "\${offered[@]}"; do _intercede_offer "$before$word"; done
}
`

const allNames = allQuoted(keys.map(({ name }) => name))
const list = (name, more = []) =>
  [`_intercede_list ${name}`, more.length > 0 && `_intercede_offer ${allQuoted(more)}`].filter(Boolean).join('; ')
const DOES = {
  nothing: () => '',
  files: () => '_intercede_files',
  directories: () => '_intercede_directories',
  words: ({ words }) => `_intercede_offer ${allQuoted(words)}`,
  variables: () => 'mapfile -t COMPREPLY < <(compgen -e -- "$cur")',
  names: () => `_intercede_names ${allNames}`,
  keys: () => '_intercede_keys',
  command: () => '_intercede_command',
  containers: ({ words }) => list('containers', words),
  live: () => list('live'),
  runs: () => list('runs'),
  profiles: () => list('profiles'),
}

/** The last operand stands for all that follow if it repeats. */
const operandPattern = (index, { repeats }) => (!repeats ? `${index}` : index === 0 ? '[0-9]*' : `[${index}-9]*`)
const places = commands.flatMap((command) => [
  ...valued(command).flatMap(({ names, value }) => names.map((name) => [`'${command.name} ${name}'`, value])),
  ...command.operands.map((each, index) => [`'${command.name} '${operandPattern(index, each)}`, each.value]),
])
/** Places where the same may stand are one case. */
const placeCases = grouped(places, ([, value]) => DOES[value.from](value))
const VALUES = `# What may stand at a place: behind an option of a command, or as its operand of a number.
_intercede_value() {
  case $1 in
${placeCases
  .filter(([does]) => does !== '')
  .map(([does, same]) => `    ${same.map(([pattern]) => pattern).join(' | ')}) ${does} ;;`)
  .join('\n')}
  esac
}
`

const namesOf = (all) => all.flatMap(({ names }) => names)
const commandCase = (command) => {
  const [taking, maybe] = [valued(command), command.options.filter(({ optional }) => optional)]
  const set = [
    `options=(${allQuoted(namesOf(command.options))})`,
    ...(taking.length > 0 ? [`valued=' ${namesOf(taking).join(' ')} '`] : []),
    ...(maybe.length > 0 ? [`maybe=' ${namesOf(maybe).join(' ')} '`] : []),
    ...(command.operands[0]?.value.from === 'command' ? ['passes=1'] : []),
  ]
  return `    ${command.name}) ${set.join(' ')} ;;`
}

const MAIN = `_intercede_subcommand() {
  local i word option= operand=0 first ended= passes= whom=() valued= maybe= options=()
  case \${words[1]} in
${commands.map(commandCase).join('\n')}
  esac
  first=$((\${#words[@]} - 1))
  for ((i = 2; i < \${#words[@]} - 1; i++)); do
    word=\${words[i]}
    if [[ -n $option && ($word != -* || $maybe != *" $option "*) ]]; then
      case $option in ${WHOM.valued.join(' | ')}) whom+=("$option" "$word") ;; esac
      option=
      continue
    fi
    option=
    if [[ -z $ended && $word == -- ]]; then
      ended=1
    elif [[ -n $ended || $word != -?* ]]; then
      ((operand > 0)) || first=$i
      ((operand += 1))
      [[ -z $passes ]] || ended=1
    elif [[ $valued == *" $word "* ]]; then
      option=$word
    else
      case $word in ${[...WHOM.valued.map((name) => `${name}=*`), ...WHOM.alone].join(' | ')}) whom+=("$word") ;; esac
    fi
  done
  if [[ -n $option && ($cur != -* || $maybe != *" $option "*) ]]; then
    _intercede_value "\${words[1]} $option"
  elif [[ -z $ended && $cur == --*=* ]]; then
    before=\${cur%%=*}=
    option=\${cur%%=*} cur=\${cur#*=}
    _intercede_value "\${words[1]} $option"
  elif [[ -z $ended && $cur == -* ]]; then
    _intercede_offer "\${options[@]}"
  else
    _intercede_value "\${words[1]} $operand"
  fi
}

_intercede() {
  local words starts word cur before= breaks=\${COMP_WORDBREAKS//[!:=]/} cut= i
  COMPREPLY=()
  _intercede_words
  cur=\${words[\${#words[@]} - 1]}
  # What bash replaces begins behind the last character at which it cuts, or behind a quote.
  if [[ $cur == [\\'\\"]* ]]; then
    cur=\${cur:1}
  elif [[ -n $breaks && $cur == *[$breaks]* ]]; then
    cut=\${cur%"\${cur##*[$breaks]}"}
  fi
  if ((\${#words[@]} > 2)); then
    _intercede_subcommand
  else
    _intercede_offer ${allQuoted(commands.map(({ name }) => name))}
    [[ $cur != -* ]] || _intercede_offer ${allQuoted(namesOf(options))}
  fi
  for i in "\${!COMPREPLY[@]}"; do
    word=$before\${COMPREPLY[i]}
    COMPREPLY[i]=\${word#"$cut"}
  done
  if ((\${#COMPREPLY[@]} == 1)) && [[ \${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}

complete -F _intercede intercede
`

export const bash = [HELPERS, KEYS, VALUES, MAIN].join('\n')
