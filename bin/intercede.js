#!/usr/bin/env node
import { existsSync } from 'node:fs'

const main = new URL('../dist/cli/main.js', import.meta.url)
if (!existsSync(main)) {
  process.stderr.write('intercede: not built yet: run "npm run build" in the checkout\n')
  process.exit(125)
}
await import(main.href)
