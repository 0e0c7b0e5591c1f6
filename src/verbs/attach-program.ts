import { errno } from '../abi/errno.ts'
import { type Effect, type Verb, type Verbs, WAS_NOT } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import type { DevicePrograms, OwnProgram } from '../calls/device-programs.ts'
import { why } from '../calls/reason.ts'
import { steps } from '../calls/steps.ts'
import { createLink, attachProgram as put, detachProgram as take } from '../kernel/bpf.ts'
import type { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'

const LOOSENS: Effect = { value: 0n, errno: errno('EPERM'), why: why('loosens') }
/** For the kernel it is memory that there is no more of. */
const TOO_MANY: Effect = { value: 0n, errno: errno('ENOMEM'), why: why('tooManyPrograms') }

type Attach = Verbs['attachProgram']

export const isAttached = (programs: DevicePrograms, group: Handle, { id }: OwnProgram): boolean =>
  programs.attached(group).ids.includes(id)

export const attachProgram: Verb<Verbs['attachProgram']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe:
    'The cgroup is strictly below the one into which the runtime put the container. It is found by its id in our ' +
    "own mount, so no bind mount and no descriptor that somebody sent can lead elsewhere. The runtime's rules are " +
    'above it, and every program above stays in force: each cgroup above that has one must have it with ' +
    'BPF_F_ALLOW_MULTI, before and after. Only programs that this container loaded are attached or replaced.',
  run(act, caller) {
    const { group, program, flags } = act
    using programs = opened(act, caller)
    caller.note(isAttached(caller.devicePrograms, group, program) ? 0n : WAS_NOT)
    caller.act(steps.changePrograms, () => put(group, programs.fd, flags, programs.old))
    return keepIfTight(act, caller, programs)
  },
  recover(act, caller, { note }) {
    if (note !== WAS_NOT || !isAttached(caller.devicePrograms, act.group, act.program)) return undefined
    using programs = opened(act, caller)
    return keepIfTight(act, caller, programs)
  },
}

interface Opened extends Disposable {
  readonly fd: Fd
  readonly old: Fd | undefined
}

function opened({ program, replace }: Attach, { devicePrograms }: Caller): Opened {
  const old = replace && devicePrograms.open(replace)
  const close = (): void => old?.[Symbol.dispose]()
  try {
    const fd = devicePrograms.open(program)
    return {
      ...{ fd, old },
      [Symbol.dispose]() {
        fd[Symbol.dispose]()
        close()
      },
    }
  } catch (error) {
    close()
    throw error
  }
}

function keepIfTight({ group, above, flags }: Attach, caller: Caller, { fd, old }: Opened): Effect {
  const undo = (): void => caller.act(steps.changePrograms, () => (old ? put(group, old, flags, fd) : take(group, fd)))
  return undoneUnlessTight(caller, above, undo) ? LOOSENS : { value: 0n }
}

/**
 * Undoes an attachment that has put programs of the cgroups above out of force, or of which that cannot be told.
 *
 * @returns whether it is undone
 * @throws {SyscallError} if it cannot be told; the attachment is undone then, too
 */
function undoneUnlessTight({ devicePrograms }: Caller, above: readonly Handle[], undo: () => void): boolean {
  let isTight = false
  try {
    isTight = !devicePrograms.loosens(above)
  } finally {
    if (!isTight) undo()
  }
  return !isTight
}

export const linkProgram: Verb<Verbs['linkProgram']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe:
    "As `attachProgram`. The container gets the link's descriptor, which can only end the attachment: changing its " +
    'program requires a program.',
  run({ group, above, program }, caller) {
    const { devicePrograms } = caller
    using fd = devicePrograms.open(program)
    const link = caller.act(steps.changePrograms, () => createLink(group, fd))
    // Closing the last descriptor of a link detaches its program.
    const undo = (): void => link[Symbol.dispose]()
    if (undoneUnlessTight(caller, above, undo)) return LOOSENS
    if (devicePrograms.countLink(link)) return { value: 0n, fd: link, cloexec: true }
    undo()
    return TOO_MANY
  },
}
