import {
  ATTACH,
  BPF_CGROUP_DEVICE,
  BPF_F_ALLOW_MULTI,
  BPF_F_ALLOW_OVERRIDE,
  BPF_F_REPLACE,
  LINK,
  UPDATE,
} from '../abi/bpf.ts'
import type { ErrnoName } from '../abi/errno.ts'
import type { Caller } from '../calls/caller.ts'
import type { Group, NoGroup, OwnProgram } from '../calls/device-programs.ts'
import { act, continueWith, type Verdict } from '../calls/verdict.ts'
import { type Command, deny, MANAGE, ours } from './bpf-command.ts'

const FLAGS = BPF_F_ALLOW_OVERRIDE | BPF_F_ALLOW_MULTI | BPF_F_REPLACE

/**
 * Continues a call whose attach type is not BPF_CGROUP_DEVICE; ATTACH, DETACH and LINK_CREATE have the type at the
 * same offset.
 */
const foreign = (view: DataView): Verdict | undefined => {
  const type = view.getUint32(ATTACH.type, true)
  return type === BPF_CGROUP_DEVICE ? undefined : continueWith('bpfAttachType', type)
}

const isVerdict = (found: object): found is Verdict => 'is' in found

/** Returns the cgroup that a descriptor names, or the verdict with the kernel's errno. */
function groupOf(caller: Caller, fd: number): Group | Verdict {
  const group = caller.devicePrograms.group(fd)
  return typeof group === 'string' ? noGroup(group) : group
}

const NO_GROUP: Readonly<Record<NoGroup, ErrnoName>> = {
  notOpen: 'EBADF',
  notCgroup: 'EBADF',
  removedCgroup: 'ENOENT',
  ownCgroup: 'EPERM',
  outsideCgroup: 'EPERM',
}
export const noGroup = (why: NoGroup): Verdict => deny(NO_GROUP[why], why)

function programOf(caller: Caller, fd: number): OwnProgram | Verdict {
  const program = caller.devicePrograms.named(fd)
  if (program === 'notOpen') return deny('EBADF', program)
  return program === 'notOurs' ? deny('EPERM', program) : program
}

/** BPF_PROG_ATTACH: attaches only below the container's cgroup, and only so that every program above stays in force. */
export const attach: Command = {
  needs: MANAGE,
  foreign,
  decide({ view }, caller) {
    const word = (at: number): number => view.getUint32(at, true)
    const flags = word(ATTACH.flags)
    if ((flags & ~FLAGS) !== 0) return deny('EINVAL', 'bpfFlags', flags)
    const program = programOf(caller, word(ATTACH.program))
    if (isVerdict(program)) return program
    const replaces = (flags & BPF_F_REPLACE) !== 0 && (flags & BPF_F_ALLOW_MULTI) !== 0
    const target = groupOf(caller, word(ATTACH.target))
    if (isVerdict(target)) return target
    const replace = replaces ? programOf(caller, word(ATTACH.replace)) : undefined
    if (replace && isVerdict(replace)) return replace
    return (
      unfit(caller, target, flags) ??
      act({ verb: 'attachProgram', ...target, program, flags, ...(replace ? { replace } : {}) })
    )
  },
}

/**
 * Returns why nothing may be attached to a cgroup. Without BPF_F_ALLOW_MULTI the program would replace what is
 * attached.
 */
function unfit({ devicePrograms }: Caller, { group, above }: Group, flags: number): Verdict | undefined {
  if (devicePrograms.loosens(above)) return deny('EPERM', 'loosens')
  if ((flags & BPF_F_ALLOW_MULTI) !== 0) return undefined
  const hasOthers = devicePrograms.attached(group).ids.some((id) => !devicePrograms.numbered(id))
  return hasOthers ? deny('EPERM', 'notOurs') : undefined
}

/** BPF_PROG_DETACH. If a cgroup can have only one program, the kernel detaches it whichever program is named. */
export const detach: Command = {
  needs: MANAGE,
  foreign,
  decide({ view }, caller) {
    const { devicePrograms } = caller
    const target = groupOf(caller, view.getUint32(ATTACH.target, true))
    if (isVerdict(target)) return target
    const { group } = target
    const { flags, ids } = devicePrograms.attached(group)
    const isSingle = ids.length > 0 && (flags & BPF_F_ALLOW_MULTI) === 0
    const named = isSingle ? undefined : devicePrograms.named(view.getUint32(ATTACH.program, true))
    const program = named ?? devicePrograms.numbered(ids[0]!) ?? 'notOurs'
    // The verb finds out whether it is attached: it may have been when this call began, before an engine or a signal
    // ended it.
    if (typeof program !== 'string') return act({ verb: 'detachProgram', group, program })
    if (ids.length === 0) return deny('ENOENT', 'notAttached')
    return deny(program === 'notOpen' ? 'EINVAL' : 'EPERM', program)
  },
}

/** BPF_LINK_CREATE: attaches a program by a link, under the same conditions as BPF_PROG_ATTACH. */
export const createLink: Command = {
  needs: MANAGE,
  foreign,
  decide({ view }, caller) {
    const flags = view.getUint32(LINK.flags, true)
    if (flags !== 0) return deny('EINVAL', 'bpfFlags', flags)
    const program = programOf(caller, view.getUint32(LINK.program, true))
    if (isVerdict(program)) return program
    const target = groupOf(caller, view.getUint32(LINK.target, true))
    if (isVerdict(target)) return target
    // The kernel attaches links with BPF_F_ALLOW_MULTI.
    return unfit(caller, target, BPF_F_ALLOW_MULTI) ?? act({ verb: 'linkProgram', ...target, program })
  },
}

/** BPF_LINK_UPDATE of a link to a program that the container loaded through us; other links are left to the kernel. */
export const updateLink: Command = {
  needs: MANAGE,
  foreign: ours,
  decide({ view }, caller) {
    const link = caller.devicePrograms.link(view.getUint32(UPDATE.link, true))
    if (!link) return continueWith('notOurs')
    const flags = view.getUint32(UPDATE.flags, true)
    if ((flags & ~BPF_F_REPLACE) !== 0) return deny('EINVAL', 'bpfFlags', flags)
    const program = programOf(caller, view.getUint32(UPDATE.program, true))
    if (isVerdict(program)) return program
    const replaced = view.getUint32(UPDATE.old, true)
    if (flags === 0 && replaced !== 0) return deny('EINVAL', 'bpfOldProgram')
    const old = flags === 0 ? undefined : programOf(caller, replaced)
    if (old && isVerdict(old)) return old
    return act({ verb: 'updateLink', link, program, flags, ...(old ? { old } : {}) })
  },
}

/** BPF_LINK_DETACH of a link to a program that the container loaded through us. */
export const detachLink: Command = {
  needs: MANAGE,
  foreign: ours,
  decide({ view }, caller) {
    const link = caller.devicePrograms.link(view.getUint32(UPDATE.link, true))
    return link ? act({ verb: 'detachLink', link }) : continueWith('notOurs')
  },
}
