// npm run suites [-- --directory DIR] [--write]: other people's tests, three ways; with --write the result goes into
// docs/other-tests.md. It takes a Debian, root, a network, 15 minutes and 600 MB of DIR.

import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { pageOf } from './page.js'
import { output, SIDES } from './sides.js'
import { suites } from './suites.js'

const USAGE = 'usage: npm run suites [-- --directory DIR] [--write]'

function options() {
  try {
    const { values } = parseArgs({
      options: { directory: { type: 'string', default: '/var/tmp/intercede-suites' }, write: { type: 'boolean' } },
    })
    return values
  } catch (error) {
    console.error(`suites: ${error.message}\n${USAGE}`)
    return process.exit(2)
  }
}

/** The tree lies below a directory that keeps users of the host out, as `run --bind` asks for. */
function prepare(directory) {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const tree = join(directory, 'tree')
  const { status } = spawnSync(new URL('prepare.sh', import.meta.url).pathname, [tree], { stdio: 'inherit' })
  if (status !== 0) throw new Error(`Cannot prepare the suites: prepare.sh ended with ${status}`)
  return tree
}

function take({ name, script, read }, tree) {
  const sides = SIDES.map((side) => {
    console.error(`suites: ${name}, ${side}`)
    const text = output(side, tree, script)
    writeFileSync(join(tree, '..', `${name}.${side}.log`), text)
    return read(text)
  })
  const version = readFileSync(join(tree, `${name}.version`), 'utf8').trim()
  const [native, without, ours] = sides
  const names = [...new Set(sides.flatMap((side) => [...side.keys()]))]
  const end = (side, test) => side.get(test) ?? 'none'
  const tests = names.map((test) => ({
    test,
    native: end(native, test),
    without: end(without, test),
    ours: end(ours, test),
  }))
  return { name, version, tests }
}

const { directory, write } = options()
if (process.geteuid() !== 0) throw new Error('Cannot run the suites: only root can')
const tree = prepare(directory)
const page = pageOf(suites.map((suite) => take(suite, tree)))
if (write) writeFileSync(new URL('../../docs/other-tests.md', import.meta.url), page)
else console.log(page)
