import type { Verb, Verbs } from '../calls/act.ts'

export const report: Verb<Verbs['report']> = {
  steps: [],
  safe:
    'Nothing is done: figures of the control groups of the container and of the machine, which any of its processes may know, ' +
    'are written into the memory of the caller, where the kernel would have written those of the machine. For an option that changes nothing, nothing is written.',
  run: ({ writes }) => ({ value: 0n, writes }),
}
