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

const LINK = `${OWN}The descriptor of the caller says the number of the link; what is opened by it is compared. `

export const updateLink: Verb<Verbs['updateLink']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe: `${LINK}Another program that it loaded takes its place in the same cgroup.`,
  run({ link, program, flags, old }, caller) {
    const { devicePrograms } = caller
    using fd = devicePrograms.open(program)
    using before = old && devicePrograms.open(old)
    using opened = devicePrograms.openLink(link)
    caller.act(steps.changePrograms, () => update(opened, fd, flags, before))
    return { value: 0n }
  },
}

export const detachLink: Verb<Verbs['detachLink']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe: `${LINK}New kernels let anyone with the link's descriptor do this.`,
  run({ link }, caller) {
    using opened = caller.devicePrograms.openLink(link)
    caller.act(steps.changePrograms, () => takeLink(opened))
    return { value: 0n }
  },
}
