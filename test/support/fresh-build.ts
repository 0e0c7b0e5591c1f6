// Refuses to test a build that is older than the sources: the global setup of all projects but unit.

import { readdirSync, statSync } from 'node:fs'

const root = new URL('../../', import.meta.url)

/** Threads and processes run from dist/: a test of an older build would tell of that. */
export default function requireFreshBuild(): void {
  const built = statSync(new URL('dist/build-id', root), { throwIfNoEntry: false })?.mtimeMs ?? 0
  const files = readdirSync(new URL('src', root), { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.(tsx?|css|html)$/.test(name),
  )
  const newer = files.find((file) => statSync(new URL(`src/${file}`, root)).mtimeMs > built)
  if (newer !== undefined) throw new Error(`Cannot test: dist/ is older than src/${newer}: npm run build`)
}
