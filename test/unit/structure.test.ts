import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))
const src = join(root, 'src')

/** Imports point downwards in this list. What each folder may do is in CONTRIBUTING.md. */
const folders = [
  'web',
  'cli',
  'api',
  'reader',
  'keeper',
  'doctor',
  'runtimes',
  'engine',
  'link',
  'mounter',
  'walker',
  'syscalls',
  'verbs',
  'caller',
  'processes',
  'filter',
  'memories',
  'calls',
  'policy',
  'shared',
  'kernel',
  'abi',
]

/** Rooms of the large folders, '' for the files at their top: imports point downwards here too. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  keeper: ['', 'control', 'feed', 'sockets', 'log', 'containers', 'persist', 'engines', 'process'],
  engine: [
    ...['', 'pool', 'thread', 'serve', 'replay', 'lxc', 'leader', 'kept', 'facts', 'execs'],
    ...['helpers', 'tables'],
  ],
  caller: ['', 'sysinfo', 'paths', 'fuse', 'mounts', 'task', 'devices', 'programs', 'identity'],
}

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => /\.tsx?$/.test(name))
const textOf = (file: string): string => readFileSync(join(src, file), 'utf8')

interface Import {
  readonly from: string
  readonly to: string
}

function importsOf(file: string): readonly Import[] {
  return [...textOf(file).matchAll(/(?:from|import\() ?'([^']+)'/g)].map(([, to]) => ({
    from: file,
    to: to!.startsWith('.') ? relative(src, resolve(src, file, '..', to!)) : to!,
  }))
}

const imports = files.flatMap(importsOf)
const level = (file: string): number => folders.indexOf(file.split('/')[0]!)
const roomOf = (file: string): string => file.split('/').slice(1, -1).join('/')

test('every file lies in a known folder, but for the public names', () => {
  expect(files.filter((file) => level(file) < 0)).toEqual(['index.ts'])
})

test('imports point downwards', () => {
  const inside = imports.filter(({ from, to }) => from !== 'index.ts' && level(to) >= 0)
  expect(inside.length).toBeGreaterThan(200)
  expect(inside.filter(({ from, to }) => level(to) < level(from))).toEqual([])
})

test.each(Object.entries(rooms))('%s/ has these rooms, and imports point downwards', (folder, order) => {
  const own = files.filter((file) => file.startsWith(`${folder}/`))
  expect([...new Set(own.map(roomOf))].sort()).toEqual([...order].sort())
  const inside = imports.filter(({ from, to }) => [from, to].every((file) => file.startsWith(`${folder}/`)))
  expect(inside.filter(({ from, to }) => order.indexOf(roomOf(to)) < order.indexOf(roomOf(from)))).toEqual([])
})

test('the keeper imports nothing of the engine: what both need is in link/', () => {
  const ofKeeper = imports.filter(({ from }) => from.startsWith('keeper/'))
  expect(ofKeeper.filter(({ to }) => to.startsWith('link/')).length).toBeGreaterThan(5)
  expect(ofKeeper.filter(({ to }) => to.startsWith('engine/'))).toEqual([])
})

test('no file imports itself, by whatever way', () => {
  const graph = new Map(files.map((file) => [file, imports.filter(({ from }) => from === file).map(({ to }) => to)]))
  const done = new Set<string>()
  const circles: string[] = []
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' > '))
    if (done.has(file) || path.includes(file)) return
    for (const next of graph.get(file) ?? []) visit(next, [...path, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  expect(circles).toEqual([])
})

test('the launcher stands on the rest of runtimes/, which imports nothing of it', () => {
  const isLauncher = (file: string): boolean => file.startsWith('runtimes/launch/')
  const rest = imports.filter(({ from }) => from.startsWith('runtimes/') && !isLauncher(from))
  expect(rest.length).toBeGreaterThan(20)
  expect(rest.filter(({ to }) => isLauncher(to))).toEqual([])
})

test('only its own file calls a runtime by its name: all else goes by the list of them', () => {
  const isKnown = (file: string): boolean => file.startsWith('runtimes/known/')
  const names = files.filter(isKnown).map((file) => basename(file, '.ts'))
  // LXC is a format of profiles and a protocol too.
  const named = new RegExp(`['"](${names.filter((name) => name !== 'index' && name !== 'lxc').join('|')})['"]`)
  const naming = files.filter((file) => named.test(readFileSync(join(src, file), 'utf8')))
  expect(naming.length).toBeGreaterThan(5)
  expect(naming.filter((file) => !isKnown(file))).toEqual([])
})

/** How names of the kernel's headers begin, and of those of the C library that go with them; or end. */
const OF_HEADERS = new RegExp(
  `^(${[
    ...[
      '_LINUX',
      '_?SC',
      'AF',
      'AT',
      'AUDIT',
      'BPF',
      'CAP',
      'CLOCK',
      'CLONE',
      'CLOSE_RANGE',
      'EPOLL',
      'FD',
      'FSCONFIG',
    ],
    ...['FSMOUNT', 'FSOPEN', 'F', 'KCMP', 'MAP', 'MFD', 'MNT', 'MOUNT_ATTR', 'MOVE_MOUNT', 'MSG', 'MS', 'NS_GET', 'O'],
    ...['OPEN_TREE', 'PIDFD', 'PR', 'PROCMAP', 'PROT', 'RESOLVE', 'RLIMIT', 'RUSAGE', 'SCHED', 'SCM', 'SECBIT'],
    ...['SECCOMP', 'SHUT', 'SIG', 'SOCK', 'SOL', 'SO', 'STATX', 'ST', 'TFD', 'UMOUNT', 'XATTR'],
  ].join('|')})_|^(S_I|POLL(?!_)|SIG|TIOC|TCSA|[RWXF]_OK$|WNOHANG$)|_(MAGIC|INIT_INO)$|^(PATH_MAX|MISC_MAJOR)$`,
)

test('only abi/ has numbers of headers, each once', () => {
  const named = files.flatMap((file) =>
    [...textOf(file).matchAll(/^(?:export )?const (_?[A-Z]\w*) = (?:-?\d|_IO|O_)/gm)].map(([, name]) => ({
      file,
      name: name!,
    })),
  )
  const ofHeaders = named.filter(({ name }) => OF_HEADERS.test(name))
  expect(ofHeaders.length).toBeGreaterThan(150)
  expect(ofHeaders.filter(({ file }) => !file.startsWith('abi/'))).toEqual([])
  const names = ofHeaders.map(({ name }) => name)
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([])
})

test('only kernel/ imports koffi', () => {
  const users = imports.filter(({ to }) => to === 'koffi').map(({ from }) => from)
  expect(users.length).toBeGreaterThan(0)
  expect(users.filter((from) => !from.startsWith('kernel/'))).toEqual([])
})

test('handlers ask the caller, which a policy test describes, and not the kernel', () => {
  const handlers = files.filter((file) => file.startsWith('syscalls/'))
  const asking = handlers.flatMap((file) =>
    [...textOf(file).matchAll(/^import (?!type ).* from '\.\.\/kernel\/.*/gm)].map(([line]) => line),
  )
  expect(asking).toEqual(["import { hasXattrat } from '../kernel/xattr.ts'"])
})

test('only kernel/clock.ts asks for the time that passes', () => {
  const asks = files.filter((file) => /\bperformance\./.test(textOf(file)))
  expect(asks).toEqual(['kernel/clock.ts'])
})

test('only shared/ blocks a thread on a word, and wakes one', () => {
  const outside = files.filter((file) => !file.startsWith('shared/'))
  expect(outside.filter((file) => /\bAtomics\.(wait|notify)\b/.test(textOf(file)))).toEqual([])
  const makers = outside.filter((file) => /\bnew SharedArrayBuffer\b/.test(textOf(file)))
  expect(makers.sort()).toEqual(['engine/execs/exec-job.ts', 'engine/thread/shared-state.ts'])
})

test('one file says what Node is, and one how programs of ours are started', () => {
  expect(files.filter((file) => /\bprocess\.execPath\b/.test(textOf(file)))).toEqual(['processes/program-files.ts'])
  const starts = /\bprocess\.execArgv\b|import\.meta\.url\.endsWith/
  expect(files.filter((file) => starts.test(textOf(file)))).toEqual(['processes/node-programs.ts'])
  const flags = /--(stack-trace-limit|max-semi-space-size)/
  expect(files.filter((file) => flags.test(textOf(file)))).toEqual(['processes/program-flags.ts'])
})

/** A path with a space has %20 in the path of a URL. */
test('no file takes the path of a URL for a path of a file', () => {
  const tests = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.[jt]s$/.test(name),
  )
  const all = [...files.map((name) => `src/${name}`), ...tests.map((name) => `test/${name}`)]
  const taking = all.filter((name) => /import\.meta\.url\)\.pathname/.test(readFileSync(join(root, name), 'utf8')))
  expect(taking).toEqual([])
})

test('only cli/ writes to standard output or ends the process by Node', () => {
  const offenders = files.filter((file) => !file.startsWith('cli/'))
  const printing = /console\.(log|error|warn)|process\.stdout\.write|process\.exit\(/
  expect(offenders.filter((file) => printing.test(textOf(file).replaceAll(/\/\*[\s\S]*?\*\//g, '')))).toEqual([])
})

/** The same name for one system call: its wrapper, its handler, its verb. */
const layers = /^(kernel|syscalls|verbs)\//
const isOneMeaning = (homes: readonly string[]): boolean => homes.every((file) => layers.test(file))

test('no exported name has two meanings', () => {
  const homes = new Map<string, string[]>()
  for (const file of files)
    for (const [, name] of textOf(file).matchAll(
      /^export (?:abstract )?(?:async )?(?:class|interface|type|function\*?|const|enum) (\w+)/gm,
    ))
      homes.set(name!, [...(homes.get(name!) ?? []), file])
  const twice = [...homes].filter(([, all]) => new Set(all).size > 1 && !isOneMeaning(all))
  expect(twice).toEqual([])
})

test('every file of tests belongs to exactly one project of vitest', () => {
  const config = readFileSync(join(root, 'vitest.config.ts'), 'utf8')
  const folders = [...config.matchAll(/include: \['test\/([^']*)\*\*\/\*\.test\.ts'\]/g)].map(([, folder]) => folder!)
  const tests = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  const homes = (file: string): number => folders.filter((folder) => file.startsWith(folder)).length
  expect(folders.length).toBeGreaterThan(4)
  expect(tests.filter((name) => name.endsWith('.test.ts') && homes(name) !== 1)).toEqual([])
})

test('every test that may be skipped has the reason in its name', () => {
  const tests = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  const silent = tests
    .filter((name) => name.endsWith('.ts') && basename(name) !== 'structure.test.ts')
    .flatMap((name) => {
      const [, ...skips] = readFileSync(join(root, 'test', name), 'utf8').split(/\.(?:skipIf|runIf)\(/)
      return skips.filter((text) => !text.includes('withReason(')).map((text) => `${name}: ${text.split('\n')[0]}`)
    })
  expect(silent).toEqual([])
})

test('every helper of tests says in its first line when to use it', () => {
  const helpers = readdirSync(join(root, 'test/support')).filter((name) => name.endsWith('.ts'))
  const first = (name: string): string => readFileSync(join(root, 'test/support', name), 'utf8').split('\n')[0]!
  expect(helpers.length).toBeGreaterThan(20)
  expect(helpers.filter((name) => !/^\/\/ .{20,}\.$/.test(first(name)))).toEqual([])
})

test('every file of tests that vitest.config.ts names is there', () => {
  const config = readFileSync(join(root, 'vitest.config.ts'), 'utf8')
  const named = [...config.matchAll(/'(test\/[\w/-]+(?:\.test)?\.ts)'/g)].map(([, path]) => path!)
  expect(named.length).toBeGreaterThan(15)
  expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([])
})

/** NAME stands for one that the reader gives. */
test('every file of ours that a page names is there, except those that the page lets one make', () => {
  const folders = ['docs/', 'test/attacks/']
  const inFolders = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => `${folder}${name}`),
  )
  const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...inFolders].filter((name) => name.endsWith('.md'))
  const named = pages.flatMap((page) =>
    [...readFileSync(join(root, page), 'utf8').matchAll(/(?<!New file )`((?:src|test|bench|scripts)\/[\w./-]+)`/g)].map(
      ([, path]) => ({ page, path: path! }),
    ),
  )
  expect(named.length).toBeGreaterThan(50)
  expect(named.filter(({ path }) => !path.includes('NAME') && !existsSync(join(root, path)))).toEqual([])
})

test('no comment in src is wider than 120 columns', () => {
  const isComment = (line: string): boolean => /^\s*(\/?\*|\/\/)|\s\/\/ /.test(line)
  const wide = files.flatMap((file) =>
    textOf(file)
      .split('\n')
      .flatMap((line, index) => (line.length > 120 && isComment(line) ? [`src/${file}:${index + 1}`] : [])),
  )
  expect(wide).toEqual([])
})

test('the changelog says nothing twice', () => {
  const text = readFileSync(join(root, 'CHANGELOG.md'), 'utf8')
  const entries = [...text.matchAll(/^- (.*(?:\n {2}.*)*)/gm)].map(([, entry]) => entry!)
  const wordsOf = (entry: string): ReadonlySet<string> => new Set(entry.toLowerCase().match(/[a-z][\w.]{3,}/g))
  const all = entries.map((entry) => ({ entry, words: wordsOf(entry) })).filter(({ words }) => words.size > 6)
  expect(all.length).toBeGreaterThan(100)
  // What is told twice shares most of its words, even if it is told in another way.
  const isSame = (one: ReadonlySet<string>, other: ReadonlySet<string>): boolean =>
    [...one].filter((word) => other.has(word)).length > 0.62 * Math.min(one.size, other.size)
  const twice = all.flatMap((one, index) =>
    all.slice(index + 1).flatMap((other) => (isSame(one.words, other.words) ? [[one.entry, other.entry]] : [])),
  )
  expect(twice).toEqual([])
})
