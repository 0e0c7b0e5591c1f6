// Writes dist/build-id: a digest of what was built. A thread or a helper process of another build is refused by it.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

const dist = new URL('../dist/', import.meta.url)
const digest = createHash('sha256')
const files = readdirSync(dist, { recursive: true })
  .filter((name) => name.endsWith('.js'))
  .sort()
for (const name of files) digest.update(name).update(readFileSync(new URL(name, dist)))
writeFileSync(new URL('build-id', dist), `${digest.digest('hex').slice(0, 16)}\n`)
