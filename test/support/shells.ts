// bash, zsh and fish with our completions, each asked as somebody who types asks it: for tests of completions.

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { missing } from './fixtures.ts'
import { execute } from './host.ts'
import { Typist } from './typist.ts'

const CLI = fileURLToPath(new URL('../../bin/intercede.js', import.meta.url))
const COMPLETIONS = fileURLToPath(new URL('../../dist/completions/', import.meta.url))

/** Prints the words that it gets, each between marks: what has become of a line that was completed. */
const PRINTS = `printf '<%s>\\n' "$@"; echo "[done]"`
/** zsh asks for marks around what is pasted. */
const PROMPT = /typist> .{0,8}$/
const DONE = /\[done\]\r?\n/

/** How the shells that edit a line by themselves are told to put all matches into it, and by which keys. */
const EDITING = {
  bash: {
    start: 'bash --norc --noprofile -i',
    setUp: `bind 'set enable-bracketed-paste off'; . "${COMPLETIONS}intercede.bash"; args() { ${PRINTS}; }; complete -F _intercede args`,
    keys: '\u001b*',
  },
  zsh: {
    start: 'zsh -f -i',
    setUp: [
      'unsetopt prompt_sp zle_bracketed_paste; autoload -Uz compinit; compinit -D -u',
      `. "${COMPLETIONS}_intercede"; args() { ${PRINTS}; }; compdef _intercede args`,
      'zle -C all complete-word _generic; bindkey "^Xa" all',
      "zstyle ':completion:all::::' completer _all_matches _complete; zstyle ':completion:all:*' insert true",
    ].join('\n'),
    keys: '\u0018a',
  },
} as const

/** A shell that completes lines. */
export interface CompletingShell extends Disposable {
  /** Returns the words into which the last word of a line is completed, as a program would get them, in any order. */
  offers(line: string): Promise<readonly string[]>
  /** Returns how often it has started `intercede` so far. */
  starts(): number
}

/** A directory in which `intercede` is found, which notes in a file each time that it is started. */
export class Path implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'intercede-shells-'))
  readonly #starts = join(this.directory, 'starts')

  constructor() {
    const program = join(this.directory, 'intercede')
    writeFileSync(program, `#!/bin/sh\necho >>${this.#starts}\nexec "${process.execPath}" "${CLI}" "$@"\n`)
    chmodSync(program, 0o755)
  }

  get starts(): number {
    return existsSync(this.#starts) ? readFileSync(this.#starts, 'utf8').length : 0
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true })
  }
}

/** Behind its last = or : bash begins a word anew, and puts only the first match whole into the line. */
const whole = (line: string, words: readonly string[]): readonly string[] => {
  const [kept = ''] = /[^ ]*[=:]/.exec(line.slice(line.lastIndexOf(' ') + 1)) ?? []
  return words.map((word) => (word.startsWith(kept) ? word : `${kept}${word}`))
}

async function editing(name: keyof typeof EDITING, cwd: string, first: string): Promise<CompletingShell> {
  const { start, setUp, keys } = EDITING[name]
  const path = new Path()
  const typist = new Typist(`env INTERCEDE_COMPLETES=1 PATH="${path.directory}:$PATH" ${start}`)
  await typist.sees(PROMPT)
  typist.type(`cd ${cwd}; ${first}\n${setUp}\necho ready-$((1 + 1))\n`)
  await typist.sees(/ready-2\r?\n/)
  return {
    async offers(line) {
      typist.type(`args ${line}${keys}\n`)
      const shown = await typist.sees(DONE)
      const words = [...shown.matchAll(/^<(.*)>\r?$/gm)].map(([, word]) => word!)
      // All words before the one that is completed are complete already.
      return whole(line, words.slice(line.split(' ').length - 1))
    },
    starts: () => path.starts,
    [Symbol.dispose]() {
      typist.hangUp()
      path[Symbol.dispose]()
    },
  }
}

function fish(cwd: string): CompletingShell {
  const path = new Path()
  const env = { ...process.env, INTERCEDE_COMPLETES: '1', PATH: `${path.directory}:${process.env.PATH}` }
  return {
    async offers(line) {
      const words = ['--no-config', '-c', 'source $argv[1]; complete -C $argv[2]', `${COMPLETIONS}intercede.fish`]
      const { stdout, stderr } = await execute('fish', [...words, `intercede ${line}`], { cwd, env })
      if (stderr !== '') throw new Error(`fish says ${JSON.stringify(stderr)}`)
      return stdout
        .split('\n')
        .filter((each) => each !== '')
        .map((each) => each.split('\t')[0]!)
    },
    starts: () => path.starts,
    [Symbol.dispose]: () => path[Symbol.dispose](),
  }
}

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type ShellName = (typeof SHELLS)[number]

/** Starts a shell in a directory. @param first what bash or zsh does before it has our completions */
export const completing = async (name: ShellName, cwd: string, first = ''): Promise<CompletingShell> =>
  name === 'fish' ? fish(cwd) : editing(name, cwd, first)

/** Why a shell cannot be asked here; undefined if it can. */
export const noShell = (name: ShellName): string | undefined => missing(name)
