import { type Verb, type Verbs, WAS_NOT } from '../calls/act.ts'
import { steps } from '../calls/steps.ts'
import { detachProgram as take, detachLink as takeLink, updateLink as update } from '../kernel/bpf.ts'
import { isAttached } from './attach-program.ts'

const OWN = 'Only a program that this container loaded, on a cgroup below the one into which the runtime put it, '

export const detachProgram: Verb<Verbs['detachProgram']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe: `${OWN}is detached. What the runtime or others attached stays.`,
  run({ group, program }, caller) {
    using fd = caller.devicePrograms.open(program)
    caller.note(isAttached(caller.devicePrograms, group, program) ? WAS_NOT : 0n)
    caller.act(steps.changePrograms, () => take(group, fd))
    return { value: 0n }
  },
  recover({ group, program }, { devicePrograms }, { note }) {
    return note === WAS_NOT && !isAttached(devicePrograms, group, program) ? { value: 0n } : undefined
  },
}

export const updateLink: Verb<Verbs['updateLink']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe: `${OWN}is replaced in the same cgroup, by another one that it loaded.`,
  run({ link, program, flags, old }, caller) {
    const { devicePrograms } = caller
    using fd = devicePrograms.open(program)
    using before = old && devicePrograms.open(old)
    caller.act(steps.changePrograms, () => update(link, fd, flags, before))
    return { value: 0n }
  },
}

export const detachLink: Verb<Verbs['detachLink']> = {
  steps: [steps.changePrograms],
  safe: `${OWN}is detached. New kernels let anyone with the link's descriptor do this.`,
  run({ link }, caller) {
    caller.act(steps.changePrograms, () => takeLink(link))
    return { value: 0n }
  },
}
