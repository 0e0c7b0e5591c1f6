// npm run suites [-- --directory DIR] [--suite NAME]... [--read] [--write]: other people's tests, four ways. With --write the
// result goes into docs/internals/other-tests.md; with --read it is taken from the logs of the last run, which lie in DIR. A run
// takes a Debian, root, a network, 20 minutes and 900 MB of DIR.

import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { pageOf } from './page.js'
import { output, SIDES, withLoops } from './sides.js'
import { suites } from './suites.js'

const USAGE = 'usage: npm run suites [-- --directory DIR] [--suite NAME]... [--read] [--write]'

function options() {
  const directory = { type: 'string', default: '/var/tmp/intercede-suites' }
  const suite = { type: 'string', multiple: true, default: suites.map(({ name }) => name) }
  try {
    return parseArgs({ options: { directory, suite, read: { type: 'boolean' }, write: { type: 'boolean' } } }).values
  } catch (error) {
    console.error(`suites: ${error.message}\n${USAGE}`)
    return process.exit(2)
  }
}

/** The tree lies below a directory that keeps users of the host out, as `run --bind` asks for. */
function prepare(directory) {
  if (process.geteuid() !== 0) throw new Error('Cannot run the suites: only root can')
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const { status } = spawnSync(fileURLToPath(new URL('prepare.sh', import.meta.url)), [join(directory, 'tree')], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (status !== 0) throw new Error(`Cannot prepare the suites: prepare.sh ended with ${status}`)
}

const logOf = (directory, { name }, side) => join(directory, `${name}.${side}.log`)

function take(directory, suite) {
  for (const side of SIDES) {
    console.error(`suites: ${suite.name}, ${side}`)
    writeFileSync(logOf(directory, suite, side), output(side, join(directory, 'tree'), suite.script))
  }
}

/** How each test of a suite ended on each side, by the logs. */
function resultOf(directory, suite) {
  const ends = SIDES.map((side) => [side, suite.read(readFileSync(logOf(directory, suite, side), 'utf8'))])
  const names = [...new Set(ends.flatMap(([, side]) => [...side.keys()]))]
  const test = (name) => ({
    test: name,
    ...Object.fromEntries(ends.map(([side, of]) => [side, of.get(name) ?? 'none'])),
  })
  const version = readFileSync(join(directory, 'tree', `${suite.name}.version`), 'utf8').trim()
  return { name: suite.name, version, tests: names.map(test), at: statSync(logOf(directory, suite, 'native')).mtime }
}

function takeAll(directory, names) {
  prepare(directory)
  withLoops(() => {
    for (const suite of suites.filter(({ name }) => names.includes(name))) take(directory, suite)
  })
}

const { directory, suite: names, read, write } = options()
if (!read) takeAll(directory, names)
const page = pageOf(suites.map((suite) => resultOf(directory, suite)))
if (write) writeFileSync(new URL('../../docs/internals/other-tests.md', import.meta.url), page)
else console.log(page)
