import { errno } from '../abi/errno.ts'
import type { Verb, Verbs, Write } from '../calls/act.ts'
import { steps } from '../calls/steps.ts'
import { attachedPrograms } from '../kernel/bpf.ts'

export const listPrograms: Verb<Verbs['listPrograms']> = {
  steps: [steps.askPrograms],
  safe:
    'The caller learns only the numbers of programs that its container loaded, for a cgroup below the one into ' +
    'which the runtime put the container. Nothing changes.',
  run({ group, room, idsAt, flagsOfEachAt, attachFlagsAt, countAt, revisionAt }, caller) {
    const { flags, ids, revision } = caller.act(steps.askPrograms, () => attachedPrograms(group))
    const own = ids.filter((id) => caller.devicePrograms.numbered(id))
    const writes: Write[] = [
      { at: attachFlagsAt, bytes: words(flags) },
      { at: countAt, bytes: words(own.length) },
    ]
    // A shorter argument lacks the member; the kernel writes it all the same (6.17 and 6.18).
    if (revisionAt !== undefined)
      writes.push({ at: revisionAt, bytes: new Uint8Array(BigUint64Array.of(revision).buffer) })
    if (room === 0 || idsAt === 0n || own.length === 0) return { value: 0n, writes }
    const listed = own.slice(0, room)
    writes.push({ at: idsAt, bytes: words(...listed) })
    if (flagsOfEachAt !== 0n) writes.push({ at: flagsOfEachAt, bytes: words(...listed.map(() => flags)) })
    return { value: 0n, writes, ...(own.length > room ? { errno: errno('ENOSPC') } : {}) }
  },
}

const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer)
