import { runtimes } from '../runtimes/known/index.ts'

/** The runtimes for which `flags` has instructions. */
export const instructed = runtimes.filter(({ instructions }) => instructions)
/** Returns the names of the runtimes whose instructions have a trait. */
export const namesWith = (trait: 'userDirectory' | 'takesFirstId'): readonly string[] =>
  instructed.filter(({ instructions }) => instructions?.[trait]).map(({ name }) => name)
