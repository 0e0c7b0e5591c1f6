// Writes dist/build-id: a digest of what was built. A thread or a helper process of another build is refused by it; while it
// is not there, all are.
import { writeFileSync } from 'node:fs'
import { digest } from '../dist/processes/digest.js'

writeFileSync(new URL('../dist/build-id', import.meta.url), `${digest()}\n`)
