import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { FILES } from '../../src/cli/completion.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (name: string): string => readFileSync(join(root, name), 'utf8')

/** What `npm pack` would ship. */
function packed(): readonly string[] {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts']
  const { stdout, stderr, status } = spawnSync('npm', args, { cwd: root, encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  const [{ files }] = JSON.parse(stdout) as [{ files: readonly { readonly path: string }[] }]
  return files.map(({ path }) => path)
}
const files = packed()

/** The pages for those who install it; the others are for a checkout. */
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map((name) => `docs/${name}`),
].filter((name) => name.endsWith('.md'))

test('the package holds every file of deploy/ and scripts/ that its pages name', () => {
  const named = pages.flatMap((page) =>
    [...read(page).matchAll(/(?<![\w/])(?:deploy|scripts)\/[\w./-]*\w/g)].map(([path]) => path),
  )
  expect(new Set(named).size).toBeGreaterThan(4)
  const isThere = (path: string): boolean => files.some((file) => file.startsWith(path))
  expect([...new Set(named)].filter((path) => !isThere(path))).toEqual([])
})

test('the pages of runtimes add their profile to the configuration once, however often they are followed', () => {
  const adds = /^(?:.*\|\|\n)?.*(?:tee -a |>>)\/etc\/intercede\/config\.yaml.*$/gm
  const lines = pages.flatMap((page) => [...read(page).matchAll(adds)].map(([line]) => line))
  expect(lines).toHaveLength(7)
  for (const line of lines) {
    const cwd = mkdtempSync(join(tmpdir(), 'intercede-pages-'))
    const here = line.replaceAll('sudo ', '').replaceAll('/etc/intercede/', '')
    const { status } = spawnSync('sh', ['-ec', `${here}\n${here}`], { cwd })
    const made = readFileSync(join(cwd, 'config.yaml'), 'utf8')
    rmSync(cwd, { recursive: true })
    expect({ status, made }, line).toEqual({ status: 0, made: 'profiles: { build: { mknod: true } }\n' })
  }
})

/** The units that installing a Debian package enables. What older versions have enabled is behind a condition of its own. */
function enabledBy(name: string): readonly string[] {
  const script = `/var/lib/dpkg/info/${name}.postinst`
  const text = existsSync(script) ? readFileSync(script, 'utf8') : ''
  const units = [...text.matchAll(/deb-systemd-helper enable '(.*?\.(?:service|socket))'/g)].map(([, unit]) => unit!)
  return units.filter((unit) => !text.includes(`debian-installed '${unit}'`)).map((unit) => `${name}/${unit}`)
}

test('scripts/setup.sh disables every service that one of its packages would start at the next boot', () => {
  const script = read('scripts/setup.sh')
  const wanted = [...script.matchAll(/(?<=^|\|\| )(?:run|tests|guests)\+?=\((.*?)\)/gm)].flatMap(([, names]) =>
    names!.split(' '),
  )
  expect(wanted).toContain('docker.io')
  const [disabled = ''] = /^services=[\s\S]*?^$/m.exec(script) ?? []
  for (const unit of wanted.flatMap(enabledBy)) expect(disabled.split(/[\s()]/), unit).toContain(unit)
})

test('the package holds the pages, the completions, and all that deploy/ has', () => {
  const deployed = readdirSync(join(root, 'deploy'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(root.length))
  expect(deployed.length).toBeGreaterThan(10)
  const completions = Object.values(FILES).map((name) => `dist/completions/${name}`)
  for (const file of [...pages, ...deployed, ...completions, 'LICENSE', 'SECURITY.md', 'bin/intercede.js'])
    expect(files).toContain(file)
})

test('a global install by npm gets every manual page: npm takes no directory for that', () => {
  const { man } = JSON.parse(read('package.json')) as { man: readonly string[] }
  expect([...man].sort()).toEqual(
    readdirSync(join(root, 'dist/man'))
      .map((name) => `./dist/man/${name}`)
      .sort(),
  )
  expect(files).toEqual(expect.arrayContaining(man.map((name) => name.slice(2))))
})

test('the package has a file for each process, thread and subcommand, and koffi alone beside them', () => {
  const code = files.filter((file) => /^(bin|dist)\/(?!man\/|types\/|completions\/)/.test(file))
  expect(code.length).toBeLessThan(33)
  for (const name of ['cli', 'run-command', 'engine', 'thread', 'mounter', 'walker', 'index'])
    expect(code).toContain(`dist/${name}.js`)
  expect(Object.keys(JSON.parse(read('package.json')).dependencies)).toEqual(['koffi'])
  for (const name of ['commander', 'preact', 'uplot', 'valibot', 'yaml'])
    expect(read('dist/licenses.txt')).toContain(`${name}\n\n`)
})

test('the package holds nothing that only a checkout needs: no maps, sources, tests, nor types of what is not public', () => {
  const isType = (file: string): boolean => /^dist\/types\/.*\.d\.ts$/.test(file)
  expect(files.filter((file) => /\.(map|ts|tsbuildinfo)$|^(src|test|bench)\//.test(file) && !isType(file))).toEqual([])
  expect(files.filter(isType).length).toBeLessThan(80)
  expect(files).not.toContain('dist/types/engine/main.d.ts')
})

/** Tests of a single module that no bundle shows, in a process of its own or in a thread. */
const OF_MODULES = [
  'attacks/own-files.test.ts',
  'fuzz/capability-sets.ts',
  'kernel/calls/exec.test.ts',
  'kernel/engine/journal-race.test.ts',
  'kernel/engine/locks.test.ts',
  'kernel/engine/suspend.test.ts',
  'kernel/keeper/names.test.ts',
  'kernel/mount/own-mounts.test.ts',
  'kernel/mount/user-mounts.test.ts',
  'kernel/sched/rt-priority.test.ts',
  'runtimes/systemd/journal.test.ts',
]
/** These make bundles of modules themselves, since what they run differs from what is shipped in a line, or asks for more. */
const BUNDLERS = [
  'fuzz/contained.js',
  'runtimes/systemd/package.test.ts',
  'support/installed.ts',
  'support/patched-build.ts',
]

test('what tests run is the bundles that are shipped: few look at a module of the build', () => {
  const folders = readdirSync(join(root, 'test')).filter((name) => name !== 'node_modules' && name !== 'unit')
  const tests = folders.flatMap((folder) =>
    readdirSync(join(root, 'test', folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|js)$/.test(name))
      .map((name) => `${folder}/${name}`),
  )
  const unbundled = tests.filter((name) => /\.\.\/out[/']|['`]out\/[a-z]+\/|'out', 'next'/.test(read(`test/${name}`)))
  expect(unbundled.sort()).toEqual([...OF_MODULES, ...BUNDLERS].sort())
})

test('neither the package nor its unit names an address that nobody has given us', () => {
  const { repository, homepage, bugs } = JSON.parse(read('package.json'))
  expect({ repository, homepage, bugs }).toEqual({})
  expect(read('deploy/systemd/intercede.service')).not.toMatch(/https?:/)
})

/** The example of the page on operating, as a program in TypeScript that has the package installed. */
function complaints(change: (example: string) => string): string {
  const [, example] = /```js\n([\s\S]*?)```/.exec(read('docs/guide/operating.md'))!
  const place = mkdtempSync(join(tmpdir(), 'intercede-types-'))
  mkdirSync(join(place, 'node_modules'))
  for (const [name, to] of [
    ['intercede', root],
    ['@types', join(root, 'node_modules/@types')],
  ] as const)
    symlinkSync(to, join(place, 'node_modules', name))
  writeFileSync(join(place, 'example.mts'), change(example!))
  const options = [
    '--noEmit',
    '--strict',
    '--ignoreConfig',
    '--module',
    'nodenext',
    '--lib',
    'es2023,esnext.disposable',
  ]
  const args = [...options, '--types', 'node', 'example.mts']
  const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), args, { cwd: place, encoding: 'utf8' })
  rmSync(place, { recursive: true })
  return stdout
}

test('the public names have types: the example of the page is right by them, and a wrong one is not', () => {
  expect(complaints((example) => example)).toBe('')
  expect(complaints((example) => example.replace('refusals.length', 'refusals.size'))).toContain(
    "'size' does not exist",
  )
})

test('a purge of the Debian package does not fail where its state has a file system of its own', () => {
  const directory = mkdtempSync(join(tmpdir(), 'purge-'))
  try {
    for (const name of ['etc', 'var/lib', 'run']) mkdirSync(join(directory, name, 'intercede'), { recursive: true })
    const script = `mount -t tmpfs none "$DPKG_ROOT/var/lib/intercede" && : >"$DPKG_ROOT/var/lib/intercede/history.jsonl" &&
      sh debian/postrm purge && find "$DPKG_ROOT" -path "*intercede/*" -o -name intercede`
    const { status, stdout } = spawnSync('unshare', ['--mount', '--map-root-user', 'sh', '-c', script], {
      ...{ cwd: root, encoding: 'utf8', env: { ...process.env, DPKG_ROOT: directory } },
    })
    expect(status).toBe(0)
    expect(stdout).toBe(`${directory}/var/lib/intercede\n`)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
