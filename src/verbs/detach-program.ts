import type { Cap } from '../abi/capability.ts'
import { type Verb, type Verbs, WAS_NOT } from '../calls/act.ts'
import { detachProgram as take, detachLink as takeLink, updateLink as update } from '../kernel/bpf.ts'
import { isAttached } from './attach-program.ts'

/** Before 6.4 bpf(2) asks for CAP_BPF whatever the command is. */
const CHANGE: readonly Cap[] = ['BPF', 'NET_ADMIN']
const OWN = 'It is a program that this container has loaded, on a cgroup below the one into which the runtime put it. '

export const detachProgram: Verb<Verbs['detachProgram']> = {
  caps: CHANGE,
  over: [],
  lane: 'fast',
  safe: `${OWN}What the runtime or others attached stays.`,
  run({ group, program }, caller) {
    using fd = caller.devicePrograms.open(program)
    caller.note(isAttached(caller.devicePrograms, group, program) ? WAS_NOT : 0n)
    caller.act(CHANGE, () => take(group, fd))
    return { value: 0n }
  },
  found({ group, program }, { devicePrograms }, { note }) {
    return note === WAS_NOT && !isAttached(devicePrograms, group, program) ? { value: 0n } : undefined
  },
}

export const updateLink: Verb<Verbs['updateLink']> = {
  caps: CHANGE,
  over: [],
  lane: 'fast',
  safe: `${OWN}Another one that it has loaded takes its place in the same cgroup.`,
  run({ link, program, flags, old }, caller) {
    const { devicePrograms } = caller
    using fd = devicePrograms.open(program)
    using before = old && devicePrograms.open(old)
    caller.act(CHANGE, () => update(link, fd, flags, before))
    return { value: 0n }
  },
}

export const detachLink: Verb<Verbs['detachLink']> = {
  caps: CHANGE,
  over: [],
  lane: 'fast',
  safe: `${OWN}New kernels let whoever has the descriptor of the link do it.`,
  run({ link }, caller) {
    caller.act(CHANGE, () => takeLink(link))
    return { value: 0n }
  },
}
