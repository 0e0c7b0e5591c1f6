import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'

const root = new URL('../', import.meta.url)

/** Returns the digest of all files that were built: 16 hexadecimal digits. */
export function digest(): string {
  const hash = createHash('sha256')
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'))
  for (const name of files.sort()) hash.update(name).update(readFileSync(new URL(name, root)))
  return hash.digest('hex').slice(0, 16)
}
