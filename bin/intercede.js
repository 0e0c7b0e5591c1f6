#!/usr/bin/env node
const { existsSync } = require('node:fs')

// Node would open its inspector, on which every local user could run code in this process: processes/program-flags.ts.
process.on('SIGUSR1', () => {})

// A process that goes on as this program: whoever asks it to once more shall not end it, as SIGHUP does before it is loaded.
if (process.env.INTERCEDE_LEFT) process.on('SIGHUP', () => {})

const loader = `${__dirname}/../dist/load.js`
if (!existsSync(loader)) {
  process.stderr.write('intercede: not built yet: run "npm run build" in the checkout\n')
  process.exit(125)
}
require(loader).loadPart('cli')
