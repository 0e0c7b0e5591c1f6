import { runtimes } from '../runtimes/known/index.ts'

/** The runtimes for which `profile` makes files. */
export const targets = runtimes.flatMap(({ target }) => target ?? [])
/** The names of the runtimes whose base profiles have rules about capabilities that we must decide. */
export const unresolved = targets.filter(({ resolvesGuards }) => !resolvesGuards).map(({ name }) => name)
