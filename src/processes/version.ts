import { readFileSync } from 'node:fs'
import { orElse } from '../kernel/error.ts'

/** Reads a file of the installation, whose files may just be being replaced. */
const read = (path: string): string | undefined =>
  orElse(undefined, () => readFileSync(new URL(path, import.meta.url), 'utf8').trim())

/** Returns the version and the build, by which two installations of the same version differ. */
export function version(): string {
  const { version: number = '(unknown)' } = JSON.parse(read('../../package.json') ?? '{}') as { version?: string }
  return `${number} (build ${read('../build-id') ?? 'unknown: its files are being replaced'})`
}
