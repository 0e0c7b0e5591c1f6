import type { Verb, Verbs } from '../calls/act.ts'

export const report: Verb<Verbs['report']> = {
  steps: [],
  safe:
    "Nothing changes. Figures about the container's control groups and the machine, which any of its processes " +
    "may know, are written to the caller's memory where the kernel would have written the machine's. For an " +
    'option that changes nothing, nothing is written.',
  run: ({ writes }) => ({ value: 0n, writes }),
}
