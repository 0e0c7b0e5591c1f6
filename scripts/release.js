// Makes everything that is published of the last commit: USAGE says what. Nothing is published by itself.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const USAGE = `usage: npm run release -- [--dry-run] [--to DIRECTORY] [--only x64|arm64] [--level 0-9]

Makes of the last commit, in release/: the package of npm, for each architecture a package of Debian and an archive with
a Node of its own, a bill of materials (CycloneDX) and SHA256SUMS. Two runs of the same commit make the same bytes.

  --dry-run       the commit needs no tag of the version
  --to DIRECTORY  instead of release/; it must be empty, or of an earlier run
  --only ARCH     of one architecture
  --level N       of xz (default: 6)
`
const SUMS = 'SHA256SUMS'
const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' }

/** Ends with a sentence and the status of a wrong command line. */
function refuse(why) {
  process.stderr.write(`release: ${why}; see npm run release -- --help\n`)
  process.exit(2)
}

function readOptions() {
  try {
    return parseArgs({
      options: {
        'dry-run': { type: 'boolean' },
        help: { type: 'boolean' },
        to: { type: 'string', default: join(ROOT, 'release') },
        only: { type: 'string' },
        level: { type: 'string', default: '6' },
      },
    }).values
  } catch (error) {
    return refuse(error.message)
  }
}

const values = readOptions()
if (values.help) {
  process.stdout.write(USAGE)
  process.exit()
}
if (values.only !== undefined && !(values.only in ARCHITECTURES)) refuse(`Cannot make ${values.only}: there is no such`)
if (!/^[0-9]$/.test(values.level)) refuse(`Cannot use level ${values.level}: it is 0 to 9`)
values.to = existsSync(values.to) ? realpathSync(values.to) : resolve(values.to)

const PROGRAMS = { git: 'git', xz: 'xz-utils', 'dpkg-buildpackage': 'dpkg-dev', dh: 'debhelper' }

/** Says what is missing before all the work. */
function requirePrograms() {
  const has = (program) => (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, program)))
  const packages = Object.entries(PROGRAMS).flatMap(([program, name]) => (has(program) ? [] : [name]))
  if (packages.length > 0) refuse(`Cannot make packages: this needs more programs: apt install ${packages.join(' ')}`)
}

/** Lists what an earlier run has made; nothing else is ever removed. */
function madeBefore(directory) {
  if (!existsSync(directory)) return []
  const there = readdirSync(directory)
  const sums = there.includes(SUMS) ? readFileSync(join(directory, SUMS), 'utf8').split('\n') : []
  const made = [SUMS, ...sums.map((line) => line.replace(/^[0-9a-f]{64} {2}/, ''))]
  const other = there.find((name) => !made.includes(name) || !lstatSync(join(directory, name)).isFile())
  if (other !== undefined)
    refuse(`Cannot use ${directory}: it has another file, ${JSON.stringify(other)}; name an empty directory`)
  return there
}

requirePrograms()
const before = madeBefore(values.to)

/** The Node of the archives: the LTS line that CI runs the tests with. */
const NODE = '24.21.0'
/** Of its packages of npm. */
const NODE_INTEGRITY = {
  x64: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  arm64: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
}
const wanted = Object.entries(ARCHITECTURES).filter(([arch]) => values.only === undefined || values.only === arch)

const said = (program, words, options) => execFileSync(program, words, { encoding: 'utf8', ...options }).trim()
const git = (...words) => said('git', words, { cwd: ROOT })
const say = (text) => process.stderr.write(`release: ${text}\n`)

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const commit = git('rev-parse', 'HEAD')
/** The time of the commit, which all files have. */
const EPOCH = git('show', '--no-patch', '--format=%ct', 'HEAD')
const env = {
  ...process.env,
  SOURCE_DATE_EPOCH: EPOCH,
  TZ: 'UTC',
  LC_ALL: 'C.UTF-8',
  npm_config_update_notifier: 'false',
}

function requireRelease() {
  const tags = git('tag', '--points-at', 'HEAD').split('\n')
  if (!tags.includes(`v${version}`))
    throw new Error(`Cannot release: the last commit has no tag v${version}; tag it, or try with --dry-run`)
  if (git('status', '--porcelain') !== '')
    throw new Error('Cannot release: there are changes that are in no commit; commit them')
}

/** The sources of the commit alone, built there with the packages of its lock file, whatever there is in the checkout. */
function build(scratch) {
  const tree = join(scratch, 'intercede')
  mkdirSync(tree)
  execFileSync('sh', ['-c', 'git archive HEAD | tar -x -C "$0"', tree], { cwd: ROOT })
  say('builds')
  const npm = (...words) => execFileSync('npm', words, { cwd: tree, env, stdio: ['ignore', 2, 2] })
  npm('ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error')
  npm('run', '--silent', 'build')
  return tree
}

/** tar and xz as they make the same bytes everywhere. */
function archive(directory, name, to) {
  const tar = ['--sort=name', `--mtime=@${EPOCH}`, '--owner=0', '--group=0', '--numeric-owner', '--format=gnu']
  const line = `set -o pipefail; tar ${tar.join(' ')} -c -C "$0" "$1" | xz --threads=2 -${values.level} >"$2"`
  execFileSync('bash', ['-c', line, directory, name, to], { env })
}

const LAUNCHER = `#!/bin/sh
# Its own Node, whatever the machine has.
here=$(dirname "$(readlink -f "$0")")
exec "$here/../node/bin/node" "$here/../lib/intercede/bin/intercede.js" "$@"
`

function nodeOf(arch, scratch) {
  const name = `node-linux-${arch}`
  const [{ filename }] = JSON.parse(
    said('npm', ['pack', '--json', '--prefer-offline', `${name}@${NODE}`], { cwd: scratch, env }),
  )
  const packed = readFileSync(join(scratch, filename))
  const found = `sha512-${createHash('sha512').update(packed).digest('base64')}`
  if (found !== NODE_INTEGRITY[arch])
    throw new Error(`Cannot use ${name}@${NODE}: it is another one than was chosen: ${found}`)
  const to = join(scratch, name)
  mkdirSync(to)
  execFileSync('tar', ['-x', '-f', join(scratch, filename), '-C', to, '--strip-components=1'])
  return to
}

function makeArchive(tree, arch, scratch, to) {
  const name = `intercede-linux-${arch}`
  say(name)
  const top = join(scratch, name)
  for (const folder of ['bin', 'lib', 'node/bin']) mkdirSync(join(top, folder), { recursive: true })
  execFileSync('node', ['scripts/stage.js', join(top, 'lib/intercede'), arch], {
    cwd: tree,
    env,
    stdio: ['ignore', 2, 2],
  })
  const node = nodeOf(arch, scratch)
  cpSync(join(node, 'bin/node'), join(top, 'node/bin/node'))
  cpSync(join(node, 'LICENSE'), join(top, 'node/LICENSE'))
  chmodSync(join(top, 'node/bin/node'), 0o755)
  writeFileSync(join(top, 'bin/intercede'), LAUNCHER, { mode: 0o755 })
  mkdirSync(join(top, 'share/man'), { recursive: true })
  for (const volume of [1, 5, 7]) symlinkSync('../../lib/intercede/dist/man', join(top, `share/man/man${volume}`))
  execFileSync('chmod', ['-R', 'u=rwX,go=rX', top])
  archive(scratch, name, join(to, `${name}.tar.xz`))
}

function makeDebianPackage(tree, arch, scratch, to) {
  say(`the package for ${ARCHITECTURES[arch]}`)
  const words = ['-b', '-us', '-uc', '-d', `-a${ARCHITECTURES[arch]}`]
  const { status, stdout, stderr } = spawnSync('dpkg-buildpackage', words, { cwd: tree, env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`Cannot make the package for ${arch}: ${stdout}${stderr}`)
  for (const name of readdirSync(scratch).filter((each) => each.endsWith('.deb'))) {
    cpSync(join(scratch, name), join(to, name))
    rmSync(join(scratch, name))
  }
}

/** What koffi is of where we are: npm knows of those for other systems too. */
const KOFFI = ['koffi', ...Object.keys(ARCHITECTURES).map((arch) => `@koromix/koffi-linux-${arch}`)]
/** The archives have it beside ours. */
const nodeComponent = (arch) => ({
  ...{ 'bom-ref': `node-linux-${arch}@${NODE}`, type: 'platform', name: `node-linux-${arch}`, version: NODE },
  ...{ scope: 'optional', description: 'in the archive alone', purl: `pkg:npm/node-linux-${arch}@${NODE}` },
  licenses: [{ license: { id: 'MIT' } }],
  hashes: [{ alg: 'SHA-512', content: Buffer.from(NODE_INTEGRITY[arch].slice(7), 'base64').toString('hex') }],
})

/** The packages that are in the bundles, koffi, and Node, with what npm knows of them. */
function makeBill(tree, to) {
  const bundled = new Set(
    readFileSync(join(tree, 'dist/licenses.txt'), 'utf8')
      .split('\n---\n\n')
      .map((text) => text.split('\n')[0]),
  )
  const isShipped = ({ group, name }) => {
    const whole = group ? `${group}/${name}` : name
    return bundled.has(whole) || KOFFI.includes(whole)
  }
  const bill = JSON.parse(
    said('npm', ['sbom', '--sbom-format=cyclonedx', '--package-lock-only'], { cwd: tree, env, maxBuffer: 2 ** 26 }),
  )
  // For npm what is bundled is of development only.
  const packages = bill.components
    .filter(isShipped)
    .map(({ properties: _, ...each }) => ({ ...each, scope: 'required' }))
  const components = [...packages, ...Object.keys(ARCHITECTURES).map(nodeComponent)]
  const known = new Set([bill.metadata.component['bom-ref'], ...components.map((each) => each['bom-ref'])])
  const dependencies = bill.dependencies
    .filter(({ ref }) => known.has(ref))
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((each) => known.has(each)) }))
  const { tools, component } = bill.metadata
  const timestamp = new Date(Number(EPOCH) * 1000).toISOString()
  const hash = createHash('sha256').update(commit).digest('hex')
  const parts = /^(.{8})(.{4})(.{4})(.{4})(.{12})/.exec(hash).slice(1)
  const serialNumber = `urn:uuid:${parts.join('-')}`
  const { properties: _, ...self } = component
  const whole = {
    ...bill,
    serialNumber,
    metadata: { timestamp, lifecycles: [{ phase: 'build' }], tools, component: { ...self, type: 'application' } },
    components,
    dependencies,
  }
  writeFileSync(join(to, `intercede-${version}.cdx.json`), `${JSON.stringify(whole, undefined, 2)}\n`)
}

function makeSums(to) {
  const names = readdirSync(to)
    .filter((name) => name !== SUMS)
    .sort()
  const sum = (name) =>
    createHash('sha256')
      .update(readFileSync(join(to, name)))
      .digest('hex')
  writeFileSync(join(to, SUMS), names.map((name) => `${sum(name)}  ${name}\n`).join(''))
}

/** Puts what was made in the place of what an earlier run has made: a run that fails changes nothing. */
function replace(made) {
  const aside = `${made}.before`
  const wasThere = existsSync(values.to)
  // What cannot be moved, such as a mount point, fails before anything is removed.
  if (wasThere) renameSync(values.to, aside)
  chmodSync(made, 0o755)
  renameSync(made, values.to)
  for (const name of before) rmSync(join(aside, name))
  if (wasThere) rmdirSync(aside)
}

function release() {
  if (!values['dry-run']) requireRelease()
  mkdirSync(dirname(values.to), { recursive: true })
  const scratch = mkdtempSync(join(tmpdir(), 'intercede-release-'))
  const made = mkdtempSync(join(dirname(values.to), '.intercede-release-'))
  try {
    const tree = build(scratch)
    execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', made], { cwd: tree, env })
    makeBill(tree, made)
    for (const [arch] of wanted) {
      makeArchive(tree, arch, scratch, made)
      makeDebianPackage(tree, arch, scratch, made)
    }
    makeSums(made)
    replace(made)
  } finally {
    for (const directory of [scratch, made]) rmSync(directory, { recursive: true, force: true })
  }
  process.stdout.write(readFileSync(join(values.to, SUMS), 'utf8'))
  if (!values['dry-run'])
    process.stdout.write(
      `\nTo publish: npm publish ${join(basename(values.to), `intercede-${version}.tgz`)}, and attach the others to the tag v${version}.\n`,
    )
}

try {
  release()
} catch (error) {
  say(error.message)
  process.exitCode = 1
}
