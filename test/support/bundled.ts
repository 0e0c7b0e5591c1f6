// Bundles a script of ours with modules of the build: for programs of tests that start the bundled engine.

import { mkdirSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildSync } from 'esbuild'

const ROOT = new URL('../../', import.meta.url)
/** The modules look for the build from where a bundle of it takes itself to be, see scripts/bundle.js. */
const PLACE = new URL('dist/bundle/module.js', ROOT).href
const REQUIRE = `import { createRequire as requireFrom } from 'node:module'
const require = requireFrom(${JSON.stringify(PLACE)})`

/** @returns the path of the bundle of a script */
export function bundled(script: string): string {
  const cache = fileURLToPath(new URL('node_modules/.cache/', ROOT))
  mkdirSync(cache, { recursive: true })
  const outfile = `${cache}intercede-${process.pid}-${basename(script, '.js')}.mjs`
  buildSync({
    entryPoints: [script],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    external: ['koffi'],
    banner: { js: REQUIRE },
    define: {
      'import.meta.url': JSON.stringify(PLACE),
      'import.meta.dirname': JSON.stringify(fileURLToPath(new URL('dist', ROOT))),
    },
  })
  return outfile
}
