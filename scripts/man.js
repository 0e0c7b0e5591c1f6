// node scripts/man.js [DIRECTORY]: writes the manual pages into dist/man, or into DIRECTORY, in mdoc(7). It makes them from the
// build's commands, policy keys, configuration keys and reasons, so that they cannot drift from the code.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

// Others may read the pages but not change them, whatever the umask is.
process.umask(0o022)

const module = (path) => new URL(`../out/${path}`, import.meta.url).href
const { calls, keys } = await import(module('policy/keys.js'))
const { reasons } = await import(module('calls/reasons.js'))
const { CONFIG_KEYS } = await import(module('policy/config-keys.js'))
const { exampleOf, sampleConfig } = await import(module('policy/config-keys.js'))
const { commands } = await import(module('cli/commands.js'))
const { EXIT_STATUS } = await import(module('cli/help-texts.js'))

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { description } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

/** The date of the build; with the same SOURCE_DATE_EPOCH, two builds of the same sources are equal. */
const date = new Date(Number(process.env.SOURCE_DATE_EPOCH ?? Date.now() / 1000) * 1000).toLocaleDateString('en-US', {
  ...{ year: 'numeric', month: 'long', day: 'numeric', timeZone: 'UTC' },
})

/** The path of one of our pages below the package's documents, from the target of a link. */
const pageOf = (target) => (target.startsWith('docs/') ? target : `docs/guide/${target}`).replace(/#.*/, '')
/** The plain text of a line of Markdown. The text of a link is followed by its page. */
const plain = (line) =>
  line
    .replaceAll(/\[([^\]]*)\]\(([^)]*)\)/g, (_, said, target) =>
      /^[\w./-]+\.md/.test(target) ? `${said}: ${pageOf(target)}` : said,
    )
    .replaceAll('`', '')

/** Escapes a text for roff: none of its lines is a request. */
const raw = (words) => words.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll(/^[.']/gm, '\\&$&')

/** Lines of a page's source fit into a terminal. */
const WIDTH = 72
const folded = (line) => line.replaceAll(new RegExp(`(.{1,${WIDTH}})(?: +|$)`, 'g'), '$1\n').trimEnd()

/** Each sentence starts on a new line, so that roff knows where sentences end. */
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

/** Formats the paragraphs and indented lines of a help text. */
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
/** Sorts by section, then by name. */
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
  const more = [choices && `One of ${choices.join(', ')}.`, usually !== undefined && `Default: ${usually}.`]
  return item(words(flags), [text(`${sentence(says)}`), ...more.filter(Boolean).map(text)].join('\n'))
}
/** Makes a sentence; a first word that is a name of the kernel keeps its lower case. */
const sentence = (says) =>
  `${/^[a-z]+[ ,:;.]/.test(says) && !says.startsWith('table, ') && !/^\S+\.\S/.test(says) ? says[0].toUpperCase() : says[0]}${says.slice(1)}.`.replace(
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
        item('Pa /etc/intercede/config.yaml', "The daemon's configuration."),
        item('Pa /run/intercede/', "The daemon's sockets."),
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
/** A policy key with everything from its table. */
const keyItem = ({ name, key }) =>
  item(
    words(`${PREFIX}${name}`),
    [
      sentence(plain(key.allows)),
      `Allowed: ${key.allowed}.`,
      `Default: ${key.default || 'none'}.`,
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
      is: 'the policy keys of intercede',
    },
    section(
      'DESCRIPTION',
      text(
        'A policy is a list of keys. They can be on the command line of intercede run, in the metadata of a seccomp profile, in annotations, ' +
          "and in the daemon's configuration. On the command line you can leave out the prefix.",
      ) +
        `\n.Pp\n${text(
          'A key with a dot, such as mount.allowed, is an option of the key before the dot. It does nothing while that key is off. ' +
            'If several sources set a key, the first of these applies: intercede set, the metadata, the profile, the default of the configuration. ' +
            'An annotation can only lower that value, except for keys listed in annotations.raise. The ceiling of the configuration limits every source.',
        )}`,
    ),
    section(
      'KEYS',
      list([
        ...calls.flatMap((call) => [keyItem(call), ...call.options.map(keyItem)]),
        keyItem({ name: 'mode', key: keys.mode }),
      ]),
    ),
    section(
      'FILES',
      list([
        item(
          'Pa docs/',
          text('The pages named here are in /usr/share/doc/intercede, or in the directory of the package of npm.'),
        ),
      ]),
    ),
    section(
      'EXAMPLES',
      `${text('Run a command that may make the harmless devices and /dev/net/tun:')}\n${literal('  intercede run -c mknod -c mknod.devices=c:10:200 -- sh')}`,
    ),
    section('SEE ALSO', also('intercede 1', 'intercede.yaml 5', 'intercede\\-reasons 7')),
  )

/** The default of a configuration key. */
const usual = ({ usually = 'none' }) => (usually === '[]' ? 'none' : usually)
const configItem = ([name, key]) =>
  item(
    words(name),
    `${[sentence(plain(key.says)), `Allowed: ${key.allowed}.`, `Default: ${usual(key)}. For example:`].map(text).join('\n')}
${literal(exampleOf(name).replaceAll(/^/gm, '  '))}`,
  )
const configPage = () =>
  page(
    {
      title: 'INTERCEDE.YAML',
      volume: 5,
      names: ['intercede.yaml'],
      is: 'configuration of the intercede daemon',
    },
    section(
      'DESCRIPTION',
      `${text("The daemon reads the file of intercede serve --config. Without that option it reads /etc/intercede/config.yaml if it exists, and a user's daemon reads intercede/config.yaml in XDG_CONFIG_HOME. The file is a YAML map. Every key is optional, and an unknown key is an error.")}
.Pp
${text('intercede serve --check-config checks a file. A running daemon reads it again on SIGHUP, intercede reload or systemctl reload intercede. Running containers get the change too, and no call is lost.')}`,
    ),
    section('KEYS', list(Object.entries(CONFIG_KEYS).map(configItem))),
    section('FILES', list([item('Pa /etc/intercede/config.yaml', "The daemon's configuration.")])),
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
        'Every intercepted call has one of these reasons: in the log, at the end of intercede run, and in intercede explain. A and B stand for numbers or names.',
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

/** The text after the options in a command's help. */
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
