// npm run release -- --dry-run [--to DIRECTORY] [--only x64|arm64] [--level 0-9 of xz]: makes everything that is published of the last commit, in
// release/: the package of npm, for each architecture a package of Debian and an archive with a Node of its own, a bill of
// materials (CycloneDX) and SHA256SUMS. Two runs of the same commit make the same bytes. Without --dry-run it wants a commit with
// the tag of the version, and prints what is left to do: nothing is published by itself.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
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
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { values } = parseArgs({
  options: {
    'dry-run': { type: 'boolean' },
    to: { type: 'string', default: join(ROOT, 'release') },
    only: { type: 'string' },
    level: { type: 'string', default: '6' },
  },
})
/** The Node of the archives: the LTS line that CI runs the tests with. */
const NODE = '24.21.0'
const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' }
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

/** The sources of the commit alone, built there. */
function build(scratch) {
  const tree = join(scratch, 'intercede')
  mkdirSync(tree)
  execFileSync('sh', ['-c', 'git archive HEAD | tar -x -C "$0"', tree], { cwd: ROOT })
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'))
  say('builds')
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: tree, env, stdio: ['ignore', 2, 2] })
  return tree
}

/** tar and xz as they make the same bytes everywhere. */
function archive(directory, name, to) {
  const tar = ['--sort=name', `--mtime=@${EPOCH}`, '--owner=0', '--group=0', '--numeric-owner', '--format=gnu']
  execFileSync(
    'sh',
    ['-c', `tar ${tar.join(' ')} -c -C "$0" "$1" | xz --threads=2 -${values.level} >"$2"`, directory, name, to],
    {
      env,
    },
  )
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
  const to = join(scratch, name)
  mkdirSync(to)
  execFileSync('tar', ['-x', '-f', join(scratch, filename), '-C', to, '--strip-components=1'])
  return to
}

function makeArchive(tree, arch, scratch) {
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
  execFileSync('chmod', ['-R', 'u=rwX,go=rX', top])
  archive(scratch, name, join(values.to, `${name}.tar.xz`))
}

function makeDebianPackage(tree, arch, scratch) {
  say(`the package for ${ARCHITECTURES[arch]}`)
  const words = ['-b', '-us', '-uc', '-d', `-a${ARCHITECTURES[arch]}`]
  const { status, stdout, stderr } = spawnSync('dpkg-buildpackage', words, { cwd: tree, env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`Cannot make the package for ${arch}: ${stdout}${stderr}`)
  for (const name of readdirSync(scratch).filter((each) => each.endsWith('.deb'))) {
    cpSync(join(scratch, name), join(values.to, name))
    rmSync(join(scratch, name))
  }
}

/** What koffi is of where we are: npm knows of those for other systems too. */
const KOFFI = ['koffi', ...Object.keys(ARCHITECTURES).map((arch) => `@koromix/koffi-linux-${arch}`)]
/** The archives have it beside ours. */
const NODE_COMPONENT = {
  ...{ 'bom-ref': `node@${NODE}`, type: 'platform', name: 'node', version: NODE, scope: 'optional' },
  ...{ purl: `pkg:generic/node@${NODE}`, description: 'in the archives alone' },
}

/** The packages that are in the bundles, koffi, and Node, with what npm knows of them. */
function makeBill(tree) {
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
  const components = [...packages, NODE_COMPONENT]
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
    metadata: { timestamp, lifecycles: [{ phase: 'build' }], tools, component: self },
    components,
    dependencies,
  }
  writeFileSync(join(values.to, `intercede-${version}.cdx.json`), `${JSON.stringify(whole, undefined, 2)}\n`)
}

function makeSums() {
  const names = readdirSync(values.to)
    .filter((name) => name !== 'SHA256SUMS')
    .sort()
  const sum = (name) =>
    createHash('sha256')
      .update(readFileSync(join(values.to, name)))
      .digest('hex')
  writeFileSync(join(values.to, 'SHA256SUMS'), names.map((name) => `${sum(name)}  ${name}\n`).join(''))
}

if (!values['dry-run']) requireRelease()
values.to = resolve(values.to)
if (existsSync(values.to)) rmSync(values.to, { recursive: true })
mkdirSync(values.to, { recursive: true })
const scratch = mkdtempSync(join(tmpdir(), 'intercede-release-'))
try {
  const tree = build(scratch)
  execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', values.to], { cwd: tree, env })
  makeBill(tree)
  for (const [arch] of wanted) {
    makeArchive(tree, arch, scratch)
    makeDebianPackage(tree, arch, scratch)
  }
  makeSums()
} finally {
  rmSync(scratch, { recursive: true })
}
process.stdout.write(readFileSync(join(values.to, 'SHA256SUMS'), 'utf8'))
if (!values['dry-run'])
  process.stdout.write(
    `\nTo publish: npm publish ${join(basename(values.to), `intercede-${version}.tgz`)}, and attach the others to the tag v${version}.\n`,
  )
