// node scripts/stage.js DIRECTORY [ARCHITECTURE]: puts what every package holds into DIRECTORY, which is made: the files that npm
// packs, and koffi with its native code for ARCHITECTURE (x64, arm64), checked against the lock file. It is built already.
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

// Others may read what is made here, and not change it, whatever the umask is.
process.umask(0o022)

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const [given, arch = process.arch] = process.argv.slice(2)
if (given === undefined) throw new Error('usage: node scripts/stage.js DIRECTORY [ARCHITECTURE]')
const DIRECTORY = resolve(given)
/** What nobody reads of koffi: what compiles it, and its pages. Of its sources only what is loaded is kept. */
const UNUSED = ['doc', 'lib', 'vendor', 'cnoke.cjs', 'CHANGELOG.md', 'README.md']
const LOADED = /\.(cjs|js|json)$/

const npm = (words, options) => execFileSync('npm', [...words, '--ignore-scripts', '--loglevel=error'], options)

/** The mode and time of a file are those of every machine on which this runs. */
function place(from, path, mode = 0o644) {
  const to = join(DIRECTORY, path)
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
  chmodSync(to, mode)
}

const [{ files }] = JSON.parse(npm(['pack', '--dry-run', '--json'], { cwd: ROOT }))
// npm makes what is in `bin` executable when it installs it.
for (const { path, mode } of files)
  place(
    join(ROOT, path),
    path,
    (mode & 0o111) !== 0 || (path.startsWith('bin/') && path.endsWith('.js')) ? 0o755 : 0o644,
  )

const scratch = mkdtempSync(join(tmpdir(), 'intercede-stage-'))
try {
  for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(ROOT, name), join(scratch, name))
  const machine = ['--os=linux', `--cpu=${arch}`, '--libc=glibc']
  npm(['ci', '--omit=dev', '--no-audit', '--no-fund', '--prefer-offline', ...machine], {
    cwd: scratch,
    stdio: ['ignore', 2, 2],
  })
  const installed = join(scratch, 'node_modules')
  const sources = readdirSync(join(installed, 'koffi/src'), { recursive: true, withFileTypes: true })
  for (const entry of sources)
    if (entry.isFile() && !LOADED.test(entry.name)) rmSync(join(entry.parentPath, entry.name))
  // With another C library Node itself is another one.
  for (const path of UNUSED) rmSync(join(installed, 'koffi', path), { recursive: true, force: true })
  rmSync(join(installed, `@koromix/koffi-linux-${arch}/musl_${arch}`), { recursive: true })
  rmSync(join(installed, '.package-lock.json'))
  rmSync(join(installed, '.bin'), { recursive: true, force: true })
  statSync(join(installed, `@koromix/koffi-linux-${arch}/linux_${arch}/koffi.node`))
  cpSync(installed, join(DIRECTORY, 'node_modules'), { recursive: true })
} finally {
  rmSync(scratch, { recursive: true })
}
// What is installed runs no script of npm.
const { scripts, devDependencies, ...rest } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
writeFileSync(join(DIRECTORY, 'package.json'), `${JSON.stringify(rest, undefined, 2)}\n`)
