// node scripts/code-cache.js: writes dist/cache/: the code that V8 makes of the bundles, for the Node that runs this, so that
// they start in half the time. It runs after the build and when the package is installed; without these files, or with
// another Node, the bundles are compiled at each start. Whoever wants to have it for another Node runs it again with that.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'

// Others may read what is made here, and not change it, whatever the umask is.
process.umask(0o022)

const LOADER = new URL('../dist/load.js', import.meta.url)

/** The bundles, by the program whose options of Node they run with: V8 takes code only with the options it was made with. */
const BUNDLES = {
  engine: [
    ...['cli', 'run-command', 'serve-command', 'profile-command', 'flags-command', 'doctor-command'],
    ...['commander', 'yaml', 'first-worker', 'engine', 'thread'],
  ],
  mounter: ['mounter'],
  walker: ['walker'],
}

/** V8 compiles a function when it is first called, but here all of them. */
function eagerly(compile) {
  setFlagsFromString('--no-lazy')
  try {
    return compile()
  } finally {
    setFlagsFromString('--lazy')
  }
}

function writeCode({ CACHE, DIGEST_LENGTH, compilePart, readPart }, name) {
  const text = readPart(name)
  const script = eagerly(() => compilePart(name, text))
  const path = join(CACHE, name)
  mkdirSync(CACHE, { recursive: true })
  // They may have been made before, and the daemon runs no file that others can change.
  for (const directory of [dirname(CACHE), CACHE]) chmodSync(directory, 0o755)
  writeFileSync(`${path}.new`, Buffer.concat([Buffer.from(text.slice(-DIGEST_LENGTH)), script.createCachedData()]), {
    mode: 0o644,
  })
  renameSync(`${path}.new`, path)
}

const asked = process.argv.slice(2)
// In a checkout npm runs this before the build, too.
if (existsSync(LOADER)) {
  const loader = createRequire(import.meta.url)(fileURLToPath(LOADER))
  for (const name of asked) writeCode(loader, name)
  for (const [program, names] of asked.length > 0 ? [] : Object.entries(BUNDLES)) {
    const flags = loader.flagsFor(program)
    const { status } = spawnSync(process.execPath, [...flags, fileURLToPath(import.meta.url), ...names], {
      stdio: 'inherit',
    })
    process.exitCode ||= status ?? 1
  }
}
