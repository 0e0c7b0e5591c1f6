// node scripts/man.js [DIRECTORY]: writes the manual pages into dist/man, or into DIRECTORY: from the commands, the keys of
// policies and of the configuration, and the reasons of the build, so that they cannot drift from the code. In mdoc(7).
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

// Others may read what is made here, and not change it, whatever the umask is.
process.umask(0o022)

const module = (path) => new URL(`../out/${path}`, import.meta.url).href
const { calls } = await import(module('policy/key-names.js'))
const { reasons } = await import(module('calls/reasons.js'))
const { CONFIG_KEYS } = await import(module('policy/config-keys.js'))
const { exampleOf, sampleConfig } = await import(module('policy/config-sample.js'))
const { commands, EXIT_STATUS } = await import(module('cli/commands.js'))

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { description } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

/** Of the build; two builds of the same sources are equal with the same SOURCE_DATE_EPOCH. */
const date = new Date(Number(process.env.SOURCE_DATE_EPOCH ?? Date.now() / 1000) * 1000).toLocaleDateString('en-US', {
  ...{ year: 'numeric', month: 'long', day: 'numeric', timeZone: 'UTC' },
})

/** Where a page of ours lies that a link leads to, below the documents of the package. */
const pageOf = (target) => (target.startsWith('docs/') ? target : `docs/guide/${target}`).replace(/#.*/, '')
/** The words of a line of Markdown. What a link says is followed by the page that has more of it. */
const plain = (line) =>
  line
    .replaceAll(/\[([^\]]*)\]\(([^)]*)\)/g, (_, said, target) =>
      /^[\w./-]+\.md/.test(target) ? `${said}: ${pageOf(target)}` : said,
    )
    .replaceAll('`', '')

/** A text as roff takes it: no line of it is a request. */
const raw = (words) => words.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll(/^[.']/gm, '\\&$&')

/** No line of a source is longer than a terminal is wide. */
const WIDTH = 72
const folded = (line) => line.replaceAll(new RegExp(`(.{1,${WIDTH}})(?: +|$)`, 'g'), '$1\n').trimEnd()

/** A sentence begins with a line, so that a reader sees where it ends. */
const text = (words) =>
  raw(
    words
      .replaceAll(/\s+/g, ' ')
      .split(/(?<=[^. ][.?!]) (?=[A-Z])/)
      .map(folded)
      .join('\n'),
  )

/** The words of a macro: quoted, so that none of them is a macro itself. */
const words = (...all) => all.map((word) => `"${raw(word).replaceAll('"', '\\(dq')}"`).join(' ')

/** Paragraphs and indented lines, as a help has them. */
const prose = (help) =>
  help
    .trim()
    .split(/\n\n+/)
    .map((block) => (/^ {2}/m.test(block) ? literal(block) : `.Pp\n${text(block)}`))
    .join('\n')
    .replace(/^\.Pp\n/, '')
const literal = (block) => `.Bd -literal\n${raw(block)}\n.Ed`

const item = (head, body) => `.It ${head}\n${body}`
const list = (items) => `.Bl -tag -width Ds\n${items.join('\n')}\n.El`
const section = (name, body) => (body ? `.Sh ${name}\n${body}\n` : '')
/** By section, and then by name. */
const order = (page) => `${page.slice(-1)} ${page}`
const also = (...pages) =>
  pages
    .sort((one, other) => (order(one) < order(other) ? -1 : 1))
    .map((page) => `.Xr ${page}`)
    .join(' ,\n')

const page = ({ title, volume, names, is }, ...sections) =>
  `.Dd ${date}
.Dt ${title} ${volume}
.Os
.Sh NAME
${names.map((name) => `.Nm ${name}`).join(' ,\n')}
.Nd ${text(is)}
${sections.join('')}`

const optionItem = ({ flags, description: says, choices, usually }) => {
  const more = [choices && `One of ${choices.join(', ')}.`, usually !== undefined && `Usually ${usually}.`]
  return item(words(flags), [text(`${sentence(says)}`), ...more.filter(Boolean).map(text)].join('\n'))
}
/** What begins with a name of the kernel's begins as that. */
const sentence = (says) =>
  `${/^[a-z]+[ ,:;.]/.test(says) && !/^\S+\.\S/.test(says) ? says[0].toUpperCase() : says[0]}${says.slice(1)}.`.replace(
    /\.\.$/,
    '.',
  )

const commandPage = ({ name, is, usage, operands, options, after }) =>
  page(
    {
      title: `INTERCEDE-${name.toUpperCase()}`,
      volume: 1,
      names: [`intercede-${name}`],
      is: is.replace(/^\w/, (c) => c.toLowerCase()),
    },
    section('SYNOPSIS', `.Nm intercede ${name}\n${text(usage)}`),
    section('DESCRIPTION', text(sentence(is))),
    section(
      'OPERANDS',
      operands.length && list(operands.map((each) => item(words(each.name), text(sentence(each.description))))),
    ),
    section('OPTIONS', options.length && list(options.map(optionItem))),
    after && section('NOTES', prose(after)),
    section('SEE ALSO', also('intercede 1', 'intercede.yaml 5', 'intercede\\-policy 7', 'intercede\\-reasons 7')),
  )

const mainPage = (all) =>
  page(
    {
      title: 'INTERCEDE',
      volume: 1,
      names: ['intercede'],
      is: 'system call interception for unprivileged Linux containers',
    },
    section('SYNOPSIS', '.Nm\n.Ar command\n.Op Ar option ...'),
    section('DESCRIPTION', text(`${description}.`)),
    section('COMMANDS', list(all.map(({ name, is }) => item(`Xr intercede\\-${name} 1`, text(sentence(is)))))),
    section(
      'FILES',
      list([
        item('Pa /etc/intercede/config.yaml', 'The configuration of the daemon.'),
        item('Pa /run/intercede/', 'Its sockets.'),
      ]),
    ),
    section('EXIT STATUS', literal(EXIT_STATUS)),
    section(
      'SEE ALSO',
      also(
        ...all.map(({ name }) => `intercede\\-${name} 1`),
        'intercede.yaml 5',
        'intercede\\-policy 7',
        'intercede\\-reasons 7',
      ),
    ),
  )

const PREFIX = 'security.syscalls.intercept.'
/** A key of a policy with all that the table says of it. */
const keyItem = ({ name, key }) =>
  item(
    words(`${PREFIX}${name}`),
    [
      sentence(plain(key.allows)),
      `Allowed is ${key.allowed}.`,
      `Usually ${key.default || 'none'}.`,
      ...(key.capabilities?.length ? [`The container must hold ${capabilities(key)}.`] : []),
    ]
      .map(text)
      .join('\n'),
  )
const capabilities = (key) => key.capabilities.map((set) => set.map((cap) => `CAP_${cap}`).join(' and ')).join(', or ')
const policyPage = () =>
  page(
    {
      title: 'INTERCEDE-POLICY',
      volume: 7,
      names: ['intercede-policy'],
      is: 'what containers may have: the keys of a policy',
    },
    section(
      'DESCRIPTION',
      text(
        'A policy is a list of keys. They are given on the command line of intercede run, in the metadata of a seccomp profile, in annotations, ' +
          'and in the configuration of the daemon. The command line takes them without the prefix, too.',
      ) +
        `\n.Pp\n${text(
          'A key with a dot after its first word says more about that one, and does nothing while that is off. ' +
            'Of several sources this one holds: what an administrator has set while the container runs, else the metadata, else the profile, else the default of the configuration. ' +
            'An annotation can only lower that, but for the keys that the configuration names. A ceiling of the configuration bounds all of them.',
        )}`,
    ),
    section('KEYS', list(calls.flatMap((call) => [keyItem(call), ...call.options.map(keyItem)]))),
    section(
      'EXAMPLES',
      `${text('A command that may make the usual devices, and /dev/net/tun:')}\n${literal('  intercede run -c mknod -c mknod.devices=c:10:200 -- sh')}`,
    ),
    section('SEE ALSO', also('intercede 1', 'intercede.yaml 5', 'intercede\\-reasons 7')),
  )

/** What holds where a file does not have the key. */
const usual = ({ usually = 'none' }) => (usually === '[]' ? 'none' : usually)
const configItem = ([name, key]) =>
  item(
    words(name),
    `${[sentence(plain(key.says)), `Allowed is ${key.allowed}.`, `Usually ${usual(key)}. For example:`].map(text).join('\n')}
${literal(exampleOf(name).replaceAll(/^/gm, '  '))}`,
  )
const configPage = () =>
  page(
    {
      title: 'INTERCEDE.YAML',
      volume: 5,
      names: ['intercede.yaml'],
      is: 'the configuration of the daemon of intercede',
    },
    section(
      'DESCRIPTION',
      `${text('The daemon reads /etc/intercede/config.yaml if it is there, and that of a user intercede/config.yaml in XDG_CONFIG_HOME, or else what intercede serve --config names. It is a map of YAML. All of it is optional, and a key that is unknown is an error.')}
.Pp
${text('intercede serve --check-config checks a file. A daemon that runs reads it again on SIGHUP, and when intercede reload or systemctl reload intercede says so: containers that run have it too then, and no call is lost.')}`,
    ),
    section('KEYS', list(Object.entries(CONFIG_KEYS).map(configItem))),
    section('FILES', list([item('Pa /etc/intercede/config.yaml', 'The configuration of the daemon.')])),
    section('EXAMPLES', `${text('A file with every key:')}\n${literal(sampleConfig().join('\n'))}`),
    section('SEE ALSO', also('intercede\\-reload 1', 'intercede\\-serve 1', 'intercede\\-policy 7')),
  )

const says = (template) =>
  text(sentence(plain(template).replaceAll(/\{([ab])(?::\w+)?\}/g, (_, name) => name.toUpperCase())))
const reasonsPage = () =>
  page(
    {
      title: 'INTERCEDE-REASONS',
      volume: 7,
      names: ['intercede-reasons'],
      is: 'why calls were done, refused or left to the kernel',
    },
    section(
      'DESCRIPTION',
      text(
        'Every intercepted call has one of these reasons, in the log, at the end of intercede run, and in intercede explain. A and B stand for numbers or names.',
      ),
    ),
    section(
      'REASONS',
      list(
        Object.entries(reasons).map(([code, [why, remedy]]) =>
          item(words(code), [says(why), remedy && says(remedy)].filter(Boolean).join('\n')),
        ),
      ),
    ),
    section('SEE ALSO', also('intercede 1', 'intercede\\-policy 7')),
  )

/** What follows the options in the help of a command. */
function notesOf(command) {
  let help = ''
  command.configureOutput({ writeOut: (more) => (help += more), getOutHelpWidth: () => 10_000 }).outputHelp()
  return help.slice(command.helpInformation().length)
}

const described = commands.map((command) => ({
  name: command.name(),
  is: command.description(),
  usage: command.usage(),
  operands: command.registeredArguments.map((each) => ({
    name: each.name(),
    description: each.description || `one of ${(each.argChoices ?? []).join(', ')}`,
  })),
  options: command.options
    .filter(({ hidden }) => !hidden)
    .map(({ flags, description: says, argChoices, defaultValue }) => ({
      flags,
      description: says,
      choices: argChoices,
      usually: [undefined, false, true].includes(defaultValue) || defaultValue.length === 0 ? undefined : defaultValue,
    })),
  after: notesOf(command),
}))
const pages = {
  'intercede.1': mainPage(described),
  ...Object.fromEntries(described.map((each) => [`intercede-${each.name}.1`, commandPage(each)])),
  'intercede.yaml.5': configPage(),
  'intercede-policy.7': policyPage(),
  'intercede-reasons.7': reasonsPage(),
}
const directory = process.argv[2] ?? join(ROOT, 'dist/man')
rmSync(directory, { recursive: true, force: true })
mkdirSync(directory, { recursive: true })
for (const [name, page] of Object.entries(pages)) writeFileSync(join(directory, name), page)
