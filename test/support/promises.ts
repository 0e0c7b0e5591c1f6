// Compares a page with its list in test/promises/, which says of each sentence who keeps it: for tests of documents.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = new URL('../../', import.meta.url).pathname
const read = (name: string): string => readFileSync(join(root, name), 'utf8')

/** Why no test keeps a sentence. What stands in parentheses behind it in a list says more. */
const REASONS: ReadonlyMap<string, string> = new Map([
  ['a heading', 'a label, or a question that the page itself answers'],
  ['leads on', 'says what follows, or where more is said'],
  ['words', 'says what a word or a row means'],
  ['advice', 'says what a reader may do, or should'],
  ['example', 'shows how something is written that other sentences promise'],
  ['explains', 'gives the reason for what another sentence says'],
  ['generated', 'is written from the sources by `npm run docs`, and compared with them by `npm run docs -- --check`'],
  ['sources', 'says where something stands in the sources, or how to change them'],
  ['kernel', 'a fact of the kernel, or of kernels that the tests do not have'],
  ['other program', 'a fact of a program that is not ours'],
  ['measured', 'a figure of one machine, taken as the page says; `npm run bench` takes it anew'],
  ['tried once', 'tells what was done by hand, once'],
  ['not here', 'takes a machine that the tests do not have'],
  ['chance', 'takes microseconds that no test can hit'],
  ['not tested', 'could be tested; the list says why that is not worth it'],
])

/** The commands whose help texts have lists; the first is that of `intercede` alone. */
export const COMMANDS: readonly string[] = [
  ...['', 'run', 'serve', 'profile', 'flags', 'doctor', 'ps', 'inspect', 'events', 'top', 'explain', 'metrics', 'api'],
  ...['set', 'reload', 'status', 'stop', 'completion'],
]

/** What keeps a sentence: a test by its file and its name, or a reason why none does. */
type Keeper =
  | { readonly file: string; readonly test: string }
  | { readonly reason: string; readonly more: string | undefined }

/** A sentence of a list, with what keeps it. */
export interface Promised {
  readonly sentence: string
  readonly keepers: readonly Keeper[]
}

function readKeeper(line: string): Keeper {
  const [, left = '', right = ''] = /^ {2}(.+?): (.+)$/.exec(line) ?? []
  if (left !== 'no test') return { file: left, test: right }
  const [, reason = right, more] = /^(.+?) \((.+)\)$/.exec(right) ?? []
  return { reason, more }
}

/**
 * Reads a list: sentences, a line each, then what keeps all of them, two spaces further in. A line begins with the file of
 * a test, a colon and the name of the test (or of a row of it) as the file has it, or with `no test:` and a reason.
 */
export function readPromises(list: string): readonly Promised[] {
  const groups = list.split('\n').reduce<{ sentences: string[]; keepers: Keeper[] }[]>((all, line) => {
    const last = all.at(-1)
    if (line.startsWith('  ')) last?.keepers.push(readKeeper(line))
    else if (line !== '' && last?.keepers.length === 0) last.sentences.push(line)
    else if (line !== '') all.push({ sentences: [line], keepers: [] })
    return all
  }, [])
  return groups.flatMap(({ sentences, keepers }) => sentences.map((sentence) => ({ sentence, keepers })))
}

const texts = new Map<string, string>()
function hasTest({ file, test: name }: { readonly file: string; readonly test: string }): boolean {
  if (!existsSync(join(root, file))) return false
  const text = texts.get(file) ?? read(file)
  texts.set(file, text)
  return ["'", '"', '`'].some((quote) => text.includes(`${quote}${name}${quote}`))
}

function flawOf(keeper: Keeper): string | undefined {
  if ('file' in keeper) return hasTest(keeper) ? undefined : `there is no test "${keeper.test}" in ${keeper.file}`
  if (!REASONS.has(keeper.reason)) return `"${keeper.reason}" is no reason; test/support/promises.ts has them`
  return keeper.reason === 'not tested' && !keeper.more ? 'say in parentheses why it is not tested' : undefined
}

/** A page, or a help text, and its list. */
export interface Page {
  readonly name: string
  readonly sentences: readonly string[]
  readonly list: string
  readonly promised: readonly Promised[]
}

/** What stands at the end of a line that keeps all sentences which begin as it does: rows of a table that is generated. */
const REST = ' …'
const covers = (line: string, sentence: string): boolean =>
  line.endsWith(REST) ? sentence.startsWith(line.slice(0, -REST.length)) : line === sentence

/** Says what is wrong with a page and its list, and what to do. */
export function flaws({ name, sentences, list, promised }: Page): readonly string[] {
  const lines = [...new Set(promised.map(({ sentence }) => sentence))]
  return [
    ...sentences
      .filter((one) => !lines.some((line) => covers(line, one)))
      .map(
        (one) =>
          `Cannot find who keeps the sentence "${one}" of ${name}; add it to ${list} with the test that keeps it`,
      ),
    ...lines
      .filter((line) => !sentences.some((one) => covers(line, one)))
      .map((line) => `Cannot find the sentence "${line}" of ${list} on ${name}; take it out of the list`),
    ...promised.flatMap(({ sentence, keepers }) =>
      (keepers.length === 0 ? ['add a test, or "no test:" and a reason'] : keepers.map(flawOf))
        .filter((flaw) => flaw !== undefined)
        .map((flaw) => `Cannot keep the sentence "${sentence}" as ${list} says: ${flaw}`),
    ),
  ]
}

export function pageOf(name: string, sentences: readonly string[], list: string): Page {
  const file = `test/promises/${list}.txt`
  return { name, sentences, list: file, promised: existsSync(join(root, file)) ? readPromises(read(file)) : [] }
}
