// node scripts/bundle.js [ROOT]: makes the bundles of dist/ from the modules of out/, which tsc has made of the sources, and
// writes dist/build-id: the digest of the bundles. A thread or helper process of another build is refused by it; while it is
// not there, all are.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

// Others may read what is made here, and not change it, whatever the umask is.
process.umask(0o022)

const CHECKOUT = fileURLToPath(new URL('..', import.meta.url))
const ROOT = resolve(process.argv[2] ?? CHECKOUT)
const DIST = join(ROOT, 'dist')

/**
 * The bundles of the subcommands, and the modules of cli/ that each has. Those of `read` read what a daemon shows, or give
 * it orders: they share a library.
 */
const COMMANDS = {
  ...Object.fromEntries(
    ['run', 'advise', 'serve', 'profile', 'flags', 'doctor', 'api', 'web'].map((name) => [name, [name]]),
  ),
  test: ['test', 'record-cases'],
  read: ['ps', 'inspect', 'events', 'top', 'explain', 'set', 'status', 'stop', 'list'],
}

/** Each other bundle, and the module that it begins with. What a subcommand does is loaded when it is to be done. */
const BUNDLES = {
  load: 'processes/load',
  cli: 'cli/main',
  engine: 'engine/main',
  'first-worker': 'engine/pool/first-worker',
  thread: 'engine/thread/thread',
  mounter: 'mounter/main',
  walker: 'walker/main',
  index: 'index',
}
/** Packages that several of them use: each is a bundle of its own, of which `yaml` is loaded when there is some to read. */
const SHARED = ['commander', 'yaml']

/**
 * What Node is started with: it lies where the sources have the program or thread, so that command lines tell which it is.
 * No stacks of errors: inside a container they would load files.
 */
const STARTS = ['engine', 'thread', 'mounter', 'walker'].map((name) => [BUNDLES[name], name])

/** What is to be loaded before, since it starts something that takes long. */
const FIRST = { engine: ['first-worker'] }

const start = (module, name) =>
  [
    'Error.stackTraceLimit = 0',
    `const { loadPart } = require('${module.replaceAll(/[^/]+/g, '..').slice(3)}/load.js')`,
    ...[...(FIRST[name] ?? []), name].map((part) => `loadPart('${part}')`),
  ].join('\n')

/** The modules look for files from where they are, which all lie in a folder: so does the file that each takes itself for. */
const BANNER = `const bundleUrl = require('node:url').pathToFileURL(__dirname + '/bundle/module.js').href`

/** A command is another bundle, not a part of this one, which loads it where it imports one of its modules. */
const commandsApart = {
  name: 'commands-apart',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^\.\// }, ({ importer, kind, path }) => {
      if (kind !== 'dynamic-import' || !importer.endsWith('/cli/commands.js')) return undefined
      const found = Object.entries(COMMANDS).find(([, modules]) => modules.includes(path.slice(2, -3)))
      if (!found) throw new Error(`Cannot make the bundles: ${path} is in no bundle of scripts/bundle.js`)
      return { path: `./${found[0]}-command.js`, external: true }
    })
    onResolve({ filter: /^command:/ }, ({ path }) => ({ path: path.slice('command:'.length), namespace: 'command' }))
    onLoad({ filter: /.*/, namespace: 'command' }, ({ path }) => ({
      contents: COMMANDS[path].map((module) => `export * from './out/cli/${module}.js'`).join('\n'),
      resolveDir: ROOT,
    }))
  },
}

/** The module that starts a thread is there once, whoever asks for it. */
const firstApart = {
  name: 'first-apart',
  setup({ onResolve }) {
    onResolve({ filter: /\/first-worker\.js$/ }, ({ kind }) =>
      kind === 'entry-point' ? undefined : { path: './first-worker.js', external: true },
    )
  },
}

const sharedApart = {
  name: 'shared-apart',
  setup({ onResolve }) {
    onResolve({ filter: new RegExp(`^(${SHARED.join('|')})$`) }, ({ kind, path }) =>
      kind === 'entry-point' ? undefined : { path: `./${path}.js`, external: true },
    )
  },
}

const { outputFiles, metafile } = await build({
  absWorkingDir: ROOT,
  // The names of packages in the bundles are the same wherever they really lie.
  preserveSymlinks: true,
  entryPoints: Object.fromEntries([
    ...Object.entries(BUNDLES).map(([name, module]) => [name, `out/${module}.js`]),
    ...Object.keys(COMMANDS).map((name) => [`${name}-command`, `command:${name}`]),
    ...SHARED.map((name) => [name, name]),
  ]),
  outdir: DIST,
  write: false,
  bundle: true,
  metafile: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
  // So that load.ts may read them as Latin-1, which V8 keeps in half the memory.
  charset: 'ascii',
  external: ['koffi'],
  banner: { js: BANNER },
  define: { 'import.meta.url': 'bundleUrl', 'import.meta.dirname': '__dirname' },
  // A kernel function that nobody calls is not declared.
  pure: ['libc.func'],
  supported: { 'dynamic-import': false },
  // A test's copy of the modules needs none, and is made in three quarters of the time.
  sourcemap: ROOT === resolve(CHECKOUT) && 'external',
  plugins: [commandsApart, firstApart, sharedApart],
})

/** The page of `intercede web`, from the sources of this checkout: no copy of the modules has another one. */
const page = await build({
  absWorkingDir: CHECKOUT,
  entryPoints: { page: 'src/web/main.tsx', style: 'src/web/page.css' },
  outdir: join(DIST, 'web'),
  write: false,
  bundle: true,
  minify: true,
  metafile: true,
  format: 'iife',
  target: 'es2022',
  charset: 'ascii',
  legalComments: 'none',
  jsx: 'automatic',
  jsxImportSource: 'preact',
})

const sha256 = (...parts) =>
  parts
    .reduce((hash, part) => hash.update(part), createHash('sha256'))
    .digest('hex')
    .slice(0, 16)

/** The licences of the packages that are in the bundles. */
function licences() {
  const ofPage = Object.keys(page.metafile.inputs).map((path) => relative(ROOT, join(CHECKOUT, path)))
  const inputs = [...Object.keys(metafile.inputs), ...ofPage]
  const names = new Set(inputs.map((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean))
  return [...names].sort().map((name) => {
    const from = inputs.find((path) => path.includes(`node_modules/${name}/`))
    const directory = resolve(ROOT, from.slice(0, from.indexOf(`node_modules/${name}/`)), 'node_modules', name)
    const file = readdirSync(directory).find((entry) => /^licen[cs]e/i.test(entry))
    const own = inputs.filter((path) => path.includes(`node_modules/${name}/`))
    return `${name}\n\n${file ? readFileSync(join(directory, file), 'utf8').trim() : notices(own)}\n`
  })
}

/** The notices at the beginning of a package's files, each once: not every package has a file of its licence. */
const notices = (files) =>
  [...new Set(files.flatMap((path) => /^(?:\/\/.*\n)+/.exec(readFileSync(resolve(ROOT, path), 'utf8')) ?? []))].join(
    '\n',
  )

/** What a declaration imports. */
const IMPORTED = /(?:from|import\() ?['"](\.[^'"]+)\.ts['"]/g

/** The declarations of the public names, and of what these are made of. A changed copy of the modules may have none. */
function declarations(file = 'index.d.ts', found = new Map()) {
  const path = join(ROOT, 'out', file)
  if (found.has(file) || !existsSync(path)) return found
  const text = readFileSync(path, 'utf8')
  found.set(file, text)
  for (const [, to] of text.matchAll(IMPORTED)) declarations(join(dirname(file), `${to}.d.ts`), found)
  return found
}

function write(name, text) {
  const path = join(DIST, name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}

rmSync(join(DIST, 'build-id'), { force: true })
const files = new Map([
  ...outputFiles.map(({ path, text }) => [
    path.slice(DIST.length + 1),
    path.endsWith('.map') ? text : `${text}//# digest=${sha256(text)}`,
  ]),
  ...page.outputFiles.map(({ path, text }) => [path.slice(DIST.length + 1), text]),
  ['web/page.html', readFileSync(join(CHECKOUT, 'src/web/page.html'), 'utf8')],
  ...STARTS.map(([module, name]) => [`${module}.js`, start(module, name)]),
  ['package.json', '{ "type": "commonjs" }\n'],
  ...[...declarations()].map(([name, text]) => [join('types', name), text]),
  ['licenses.txt', licences().join('\n---\n\n')],
])
// What an earlier build has left would count as a file of this one, and code that V8 has made of it is of no use.
rmSync(join(DIST, 'cache'), { recursive: true, force: true })
for (const entry of existsSync(DIST) ? readdirSync(DIST, { recursive: true, withFileTypes: true }) : []) {
  const path = join(entry.parentPath, entry.name)
  if (entry.isFile() && !files.has(path.slice(DIST.length + 1))) rmSync(path)
}
for (const [name, text] of files) write(name, text)
const scripts = [...files].filter(([name]) => name.endsWith('.js')).sort(([one], [other]) => (one < other ? -1 : 1))
write('build-id', `${sha256(...scripts.flat())}\n`)
