// The code that V8 has made of the build is executed: only what belongs to this build, this Node and its owner may be.

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { KOFFI } from '../../../src/processes/load.ts'
import { flagsFor } from '../../../src/processes/program-flags.ts'
import { execute } from '../../support/host.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'intercede-code-'))
const dist = join(directory, 'dist')
const cache = join(dist, 'cache', `${process.version}-${process.arch}`)
const SOMEBODY = 1000
const built = join(ROOT, 'dist/cache', `${process.version}-${process.arch}`)

// The build has made it for the Node that built; these tests run with others, too.
if (!existsSync(built)) execFileSync(process.execPath, [join(ROOT, 'scripts/code-cache.js')])

/** What is loaded of a build: no pages, types or maps. */
const isLoaded = (path: string): boolean => !/\.map$|\/dist\/(man|completions|types)$/.test(path)

function copyBuild(): void {
  rmSync(directory, { recursive: true })
  cpSync(join(ROOT, 'dist'), dist, { recursive: true, preserveTimestamps: true, filter: isLoaded })
  cpSync(join(ROOT, 'package.json'), join(directory, 'package.json'))
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
}
beforeAll(copyBuild)
afterAll(() => rmSync(directory, { recursive: true }))

/** Tells on standard error of what is compiled whether there was code for it, and whether V8 took the code. */
const WATCH = `const vm = require('node:vm'), { basename } = require('node:path')
vm.Script = class extends vm.Script {
  constructor(text, options) {
    super(text, options)
    const use = options.cachedData === undefined ? 'none' : this.cachedDataRejected ? 'refused' : 'taken'
    process.stderr.write(basename(options.filename, '.js') + ' ' + use + '\\n')
  }
}
`
/** It has started a thread that waits for an engine. */
const WAITS = 'first-worker'

async function loaded(
  name: string,
  flags: readonly string[] = [],
): Promise<{ readonly said: string; readonly stdout: string }> {
  const program = `${WATCH}process.argv.splice(1, 0, 'intercede')
require(${JSON.stringify(join(dist, 'load.js'))}).loadPart(${JSON.stringify(name)})
${name === WAITS ? 'process.exit()' : ''}`
  const { stdout, stderr } = await execute(process.execPath, [...flags, '--eval', program, '--', '--version'])
  return { said: stderr.split('\n')[0]!, stdout }
}

test.each(readdirSync(built))('V8 takes the code of %s, with the options of its program', async (name) => {
  const program = name === 'mounter' || name === 'walker' ? name : 'engine'
  expect((await loaded(name, flagsFor(program))).said).toBe(`${name} taken`)
})

describe('the bundle is compiled, and works', () => {
  beforeEach(copyBuild)
  const path = join(cache, 'cli')
  /** Another text of the same length, as a new version may have, with the digest of its own. */
  function replace(): void {
    const bundle = join(dist, 'cli.js')
    const text = readFileSync(bundle, 'latin1')
    const [, digest] = /digest=(\w+)$/.exec(text)!
    writeFileSync(bundle, text.replace(digest!, '0123456789abcdef'))
    const long = new Date(0)
    utimesSync(bundle, long, long)
  }
  test.each([
    { where: 'there is no code', use: 'none', spoil: () => rmSync(cache, { recursive: true }) },
    { where: 'the code is of somebody else', use: 'none', spoil: () => chownSync(path, SOMEBODY, 0) },
    { where: 'everybody may write the code', use: 'none', spoil: () => chmodSync(path, 0o666) },
    { where: 'its group may write the code', use: 'none', spoil: () => chmodSync(path, 0o664) },
    {
      where: 'the bundle is newer',
      use: 'none',
      spoil: () => utimesSync(join(dist, 'cli.js'), new Date(), new Date()),
    },
    { where: 'the bundle is another one', use: 'none', spoil: replace },
    { where: 'Node has other options', use: 'refused', spoil: () => {}, flags: ['--stack-trace-limit=3'] },
    {
      where: 'the code is cut short',
      use: 'refused',
      spoil: () => writeFileSync(path, readFileSync(path).subarray(0, 1000)),
    },
  ])('where $where', async ({ use, spoil, flags }) => {
    spoil()
    const { said, stdout } = await loaded('cli', flags)
    expect(said).toBe(`cli ${use}`)
    expect(stdout).toMatch(/^\d+\.\d+\.\d+ \(build [0-9a-f]{16}\)\n$/)
  })
})

test.each([
  { how: 'is loaded without what is around it in its packages', there: KOFFI, around: [] },
  { how: 'of another version is loaded as the packages do', there: '0.0.0', around: ['index.cjs', 'koffi.node'] },
])("koffi's own code $how", async ({ there, around }) => {
  const loader = join(dist, 'load.js')
  writeFileSync(loader, readFileSync(loader, 'latin1').replace(`"${KOFFI}"`, JSON.stringify(there)))
  const script = `require(${JSON.stringify(loader)}).loadPart('run-command')
    console.log(JSON.stringify(Object.keys(require.cache).filter((path) => path.includes('koffi'))))`
  const { stdout } = await execute(process.execPath, ['-e', script])
  const files = (JSON.parse(stdout) as string[]).map((path) => basename(path))
  expect(around.filter((name) => !files.includes(name))).toEqual([])
  if (around.length === 0) expect(files).toEqual([])
})

test('the version of koffi that the loader knows is the one that is installed', () => {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  expect(KOFFI).toBe(dependencies.koffi)
})
