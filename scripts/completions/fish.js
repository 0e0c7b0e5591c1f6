// The completion for fish: a line for each word, with the place where it may stand.
import { commands, grouped, keys, options, PREFIX, valued, WHOM } from './model.js'

const quoted = (text) => (/^[\w@%+:,./-]+$/.test(text) ? text : `'${text.replaceAll(/[\\']/g, '\\$&')}'`)
const allQuoted = (texts) => texts.map(quoted).join(' ')

const alone = keys.filter(({ isAlone }) => isAlone)
const others = keys.filter(({ isAlone }) => !isAlone)
const cases = grouped(
  keys.filter(({ offered }) => offered.length > 0),
  ({ offered, isList }) =>
    `${isList ? '$name=$listed' : '$name='}${offered.length > 1 ? `{${offered.map(quoted).join(',')}}` : quoted(offered[0])}`,
)

const HELPERS = `# fish completion for intercede, made by scripts/completions.js of the build

# The words before the one that is typed, without quotes.
function __intercede_words
    commandline -xpc 2>/dev/null; or commandline -opc
end

function __intercede_is_first
    test (count (__intercede_words)) -eq 1
end

# Prints the operands of a command so far, but for its name. Arguments: the options that take a value.
function __intercede_operands
    set -l words (__intercede_words)
    set -l i 3
    while test $i -le (count $words)
        set -l word $words[$i]
        if test "$word" = --
            set -l rest (math $i + 1)
            test $rest -gt (count $words); or printf '%s\\n' $words[$rest..]
            return
        else if string match -qr -- '^-.' $word
            contains -- $word $argv; and set i (math $i + 1)
        else
            printf '%s\\n' $word
        end
        set i (math $i + 1)
    end
end

# Whether the words are of this command.
function __intercede_in --argument-names command
    set -l words (__intercede_words)
    test "$words[2]" = $command
end

# Whether so many operands of this command have been typed. Arguments: command, number, the options that take a value.
function __intercede_at
    __intercede_in $argv[1]; and test (count (__intercede_operands $argv[3..])) -eq $argv[2]
end

function __intercede_past
    __intercede_in $argv[1]; and test (count (__intercede_operands $argv[3..])) -ge $argv[2]
end

# What a daemon or a file knows, each one plain word with what it is.
function __intercede_list --argument-names what
    set -l words (__intercede_words)
    set -l whom
    for i in (seq (count $words))
        if contains -- $words[$i] ${WHOM.valued.join(' ')}
            set -a whom $words[$i] $words[(math $i + 1)]
        else if contains -- $words[$i] ${WHOM.alone.join(' ')}; or string match -qr -- '^(${WHOM.valued.join('|')})=' $words[$i]
            set -a whom $words[$i]
        end
    end
    command -q intercede; or return
    command intercede completion --list $what --begun (__intercede_typed) $whom 2>/dev/null
end
`

const keyPrint = (all, end) =>
  all.map(({ name, says }) => `    printf '%s\\t%s\\n' "$long"${quoted(name)}${end} ${quoted(says)}`).join('\n')
const KEYS = `# What is typed of a value, without the option before it.
function __intercede_typed
    string replace -r -- '^--[a-z-]+=' '' (commandline -ct)
end

# A key has its short name, or its long one if that has been begun.
function __intercede_names
    set -l typed (__intercede_typed)
    set -l long ''
    string match -q -- 'sec*' $typed; and set long ${PREFIX}
${keyPrint(keys, '')}
end

function __intercede_keys
    set -l typed (__intercede_typed)
    set -l long ''
    string match -q -- 'sec*' $typed; and set long ${PREFIX}
    if not string match -q -- '*=*' $typed
${keyPrint(alone, '').replaceAll(/^/gm, '    ')}
${keyPrint(others, '=').replaceAll(/^/gm, '    ')}
        return
    end
    set -l parts (string split -m 1 -- = $typed)
    set -l name $parts[1]
    set -l listed (string match -r -- '.*,' $parts[2]; or echo)
    switch (string replace -- ${PREFIX} '' $name)
${cases.map(([does, same]) => `        case ${allQuoted(same.map(({ name }) => name))}\n            printf '%s\\n' ${does}`).join('\n')}
    end
end
`

const ARGUMENTS = {
  nothing: () => '-x',
  files: () => '-r -F',
  directories: () => "-x -a '(__fish_complete_directories)'",
  words: ({ words }) => `-x -a ${quoted(words.join(' '))}`,
  variables: () => "-x -a '(set --names --export)'",
  names: () => "-x -a '(__intercede_names)'",
  keys: () => "-x -a '(__intercede_keys)'",
  containers: ({ words }) =>
    words
      ? `-x -a ${quoted(`(__intercede_list containers) ${words.join(' ')}`)}`
      : "-x -a '(__intercede_list containers)'",
  live: () => "-x -a '(__intercede_list live)'",
  runs: () => "-x -a '(__intercede_list runs)'",
  profiles: () => "-x -a '(__intercede_list profiles)'",
}

const complete = (condition, ...rest) =>
  ['complete -c intercede', condition && `-n ${quoted(condition)}`, ...rest].filter(Boolean).join(' ')
const optionLine = (condition, { names, says, value, optional }) => {
  const [short, full] = [names.find((name) => !name.startsWith('--')), names.find((name) => name.startsWith('--'))]
  return complete(
    condition,
    short && `-s ${short.slice(1)}`,
    full && `-l ${full.slice(2)}`,
    value && (optional ? ARGUMENTS[value.from](value).replace(/^-[xr] /, '') : ARGUMENTS[value.from](value)),
    `-d ${quoted(says)}`,
  )
}

function commandLines(command) {
  const taking = valued(command).flatMap(({ names }) => names)
  const at = (test, number) => [test, command.name, number, ...taking].join(' ')
  const passes = command.operands[0]?.value.from === 'command'
  const inside = passes ? at('__intercede_at', 0) : `__intercede_in ${command.name}`
  const operandLine = ({ repeats, value }, index) =>
    value.from === 'command'
      ? complete(
          `__intercede_in ${command.name}`,
          `-x -a ${quoted(`(__fish_complete_subcommand --fcs-skip=2 ${taking.join(' ')})`)}`,
        )
      : complete(at(repeats ? '__intercede_past' : '__intercede_at', index), ARGUMENTS[value.from](value))
  return [
    complete('__intercede_is_first', `-a ${command.name}`, `-d ${quoted(command.says)}`),
    ...command.options.map((each) => optionLine(inside, each)),
    ...command.operands.map(operandLine),
  ]
}

const LINES = [
  complete('', '-f'),
  ...options.map((each) => optionLine('__intercede_is_first', each)),
  ...commands.flatMap(commandLines),
].join('\n')

export const fish = `${[HELPERS, KEYS, LINES].join('\n')}\n`
