import { readFileSync } from 'node:fs'
import { formatValue } from './output-format.ts'
import { print, printAtOnce } from './print.ts'
import { checkUsage } from './usage.ts'

/** The file for each shell, by the name under which it finds the file; `scripts/completions.js` makes them. */
export const FILES = { bash: 'intercede.bash', zsh: '_intercede', fish: 'intercede.fish' } as const

/** Prints what a shell reads to complete the words of intercede. */
export function printCompletion(shell: keyof typeof FILES | undefined): void {
  checkUsage(
    shell !== undefined,
    `Cannot print a completion: no shell is named; name one of ${Object.keys(FILES).join(', ')}`,
  )
  printAtOnce(readFileSync(new URL(`../completions/${FILES[shell!]}`, import.meta.url), 'utf8'))
}

/** What completions ask for while somebody types, since only a daemon, a file or the machine knows it. */
export const LISTS = ['containers', 'live', 'runs', 'profiles'] as const
export type ListName = (typeof LISTS)[number]

/** What stands on the line that somebody types, and says whom to ask. */
export interface Asked {
  /** The word so far. */
  readonly begun: string
  readonly feed?: string | undefined
  readonly daemonConfig?: string | undefined
  readonly user?: boolean | undefined
}

/** A word of a command line, and what stands behind it. */
export type Offer = readonly [word: string, about: string]

/**
 * A text that is one word to every shell, as it is. Names come from containers: no other name is offered, so that no
 * shell has to quote one.
 */
const PLAIN = /^[A-Za-z0-9][\w.@+/:-]{0,254}$/
export const isPlain = (text: string): boolean => PLAIN.test(text)

/**
 * Prints what a shell may offer: a word, a tab, and what it is, on a line each. A shell asks while somebody types, so
 * this says nothing of what is wrong.
 */
export function printOffers({ begun }: Asked, find: () => readonly Offer[]): void {
  try {
    const offers = new Map(find().filter(([word]) => isPlain(word) && word.startsWith(begun)))
    print([...offers].map(([word, about]) => `${word}\t${formatValue(about)}\n`).join(''))
  } catch {
    // There is no daemon or file, or it is not for this user.
  }
}
