// node scripts/completions.js [DIRECTORY]: writes the completions for bash, zsh and fish into dist/completions, or into DIRECTORY,
// under the names by which the shells find them: from the commands, keys and reasons of the build.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bash } from './completions/bash.js'
import { fish } from './completions/fish.js'
import { zsh } from './completions/zsh.js'

// Others may read what is made here, and not change it, whatever the umask is.
process.umask(0o022)

const { FILES } = await import(new URL('../out/cli/completion.js', import.meta.url).href)

const directory = process.argv[2] ?? fileURLToPath(new URL('../dist/completions', import.meta.url))
rmSync(directory, { recursive: true, force: true })
mkdirSync(directory, { recursive: true })
for (const [shell, text] of Object.entries({ bash, zsh, fish })) writeFileSync(join(directory, FILES[shell]), text)
