import { errno } from '../abi/errno.ts'
import { FSCONFIG as command, FSMOUNT_CLOEXEC, FSOPEN_CLOEXEC, isFsmountAttributes } from '../abi/mount.ts'
import { WAS_NOT } from '../calls/act.ts'
import type { Caller, Registers } from '../calls/caller.ts'
import type { Context, Parameter } from '../calls/context.ts'
import type { Syscall } from '../calls/syscall.ts'
import { act, continueWith, refuse, type Verdict } from '../calls/verdict.ts'
import { mannerOf, superblockRequest } from './mount-description.ts'
import { judgeParameter } from './mount-options.ts'
import { judgeMounter, judgeType } from './mount-types.ts'

/** With the NUL: linux/fs/fsopen.c fsconfig(). */
const STRING = 256
const TOLD: ReadonlySet<number> = new Set([command.SET_FLAG, command.SET_STRING])
const MAKES: ReadonlySet<number> = new Set([command.CMD_CREATE, command.CMD_CREATE_EXCL])
const NOT_TOLD: ReadonlySet<number> = new Set([
  command.SET_BINARY,
  command.SET_PATH,
  command.SET_PATH_EMPTY,
  command.SET_FD,
])

/**
 * fsopen(2): gives the caller a context in which nothing is ever made: what it is told is noted, and told to a context of
 * ours when the file system is made. If the container held the one in which it is made, it could mount it by itself, and
 * open devices there.
 */
export const fsopen: Syscall<{ readonly type: string | undefined; readonly cloexec: boolean }> = {
  names: ['fsopen'],
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    return (args.uint(1) & ~FSOPEN_CLOEXEC) === 0 ? undefined : continueWith('changesMounts')
  },
  decode: (args, caller) => ({ type: caller.string(args.pointer(0)), cloexec: args.uint(1) === FSOPEN_CLOEXEC }),
  decide({ type, cloexec }, caller, { mount }) {
    if (!mount) return continueWith('keyOff')
    // A null pointer, by which mount(8) finds out whether there is such a call.
    if (type === undefined) return continueWith('changesMounts')
    const left = judgeType(type, mount) ?? judgeMounter(caller)
    if (left) return left
    // What libmount takes for a kernel without this call: then it uses mount(2).
    if (mount.fuse.has(type)) return refuse('fuseByMount', errno('ENOSYS'))
    caller.mounts.tidy()
    caller.mounts.namespace()
    return act({ verb: 'openContext', type, cloexec })
  },
}

interface Told {
  readonly fd: number
  readonly command: number
  readonly parameter: Parameter | undefined
}

/**
 * fsconfig(2): what sets a parameter is noted, and the kernel sets it in the caller's own context too: so it checks it, and
 * says what is wrong with it where the caller looks for that.
 */
export const fsconfig: Syscall<Told> = {
  names: ['fsconfig'],
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    return isWellFormed(args) ? undefined : continueWith('changesMounts')
  },
  decode(args, caller) {
    const code = args.uint(1)
    const key = TOLD.has(code) ? caller.string(args.pointer(2), STRING) : undefined
    const value = code === command.SET_STRING ? caller.string(args.pointer(3), STRING) : undefined
    return { fd: args.int(0), command: code, parameter: key === undefined ? undefined : parameterOf(key, value) }
  },
  decide({ fd, command: code, parameter }, caller, { mount }) {
    if (!mount) return continueWith('keyOff')
    const context = caller.mounts.context(fd)
    if (!context) return continueWith('foreignContext')
    if (MAKES.has(code)) return make(context, code === command.CMD_CREATE_EXCL, caller)
    if (NOT_TOLD.has(code)) return refuse('parameterNotServed', errno('ENOTSUP'))
    if (isOver(context)) return refuse('contextBusy', errno('EBUSY'))
    const refused = parameter && judgeParameter(parameter)
    if (refused) return refused
    if (parameter && !note(context, parameter)) return refuse('contextFull', errno('E2BIG'))
    return continueWith('contextTold')
  },
}

/** Anything else is EINVAL, whatever the descriptor; linux/fs/fsopen.c fsconfig(). */
function isWellFormed(args: Registers): boolean {
  const code = args.uint(1)
  const [key, value, aux] = [args.pointer(2) !== 0n, args.pointer(3) !== 0n, args.int(4) !== 0]
  if (MAKES.has(code)) return !key && !value && !aux
  if (TOLD.has(code)) return key && !aux && value === (code === command.SET_STRING)
  return NOT_TOLD.has(code)
}

const parameterOf = (key: string, value: string | undefined): Parameter => (value === undefined ? [key] : [key, value])

const isOver = ({ made, hasFailed }: Context): boolean => made !== undefined || hasFailed

const isSame = ([key, value]: Parameter, [other, otherValue]: Parameter): boolean =>
  key === other && value === otherValue

/**
 * The kernel takes one source only. A call that was interrupted and made again, or left to another engine, was told already: no
 * parameter means anything else the second time in a row.
 */
function note(context: Context, parameter: Parameter): boolean {
  const { parameters } = context
  const last = parameters.at(-1)
  const again =
    (last && isSame(last, parameter)) || (parameter[0] === 'source' && parameters.some(([key]) => key === 'source'))
  return again || context.add(parameter)
}

function make(context: Context, exclusive: boolean, caller: Caller): Verdict {
  const left = judgeMounter(caller)
  if (left) return left
  if (isOver(context) && caller.noted !== WAS_NOT) return refuse('contextBusy', errno('EBUSY'))
  caller.mounts.tidy()
  caller.mounts.namespace()
  return act({ verb: 'create', context, description: superblockRequest(context, exclusive, caller) })
}

interface Mounted {
  readonly fd: number
  readonly cloexec: boolean
  readonly attributes: bigint
}

/** fsmount(2): a mount of what was made, locked as the policy says before the caller has it. */
export const fsmount: Syscall<Mounted> = {
  names: ['fsmount'],
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    const taken = (args.uint(1) & ~FSMOUNT_CLOEXEC) === 0 && isFsmountAttributes(BigInt(args.uint(2)))
    return taken ? undefined : continueWith('changesMounts')
  },
  decode: (args) => ({ fd: args.int(0), cloexec: args.uint(1) === FSMOUNT_CLOEXEC, attributes: BigInt(args.uint(2)) }),
  decide({ fd, cloexec, attributes }, caller, { mount }) {
    if (!mount) return continueWith('keyOff')
    const context = caller.mounts.context(fd)
    if (!context) return continueWith('foreignContext')
    const left = judgeMounter(caller)
    if (left) return left
    const isBegun = caller.noted === WAS_NOT
    if (!context.made || (context.isUsed && !isBegun)) return continueWith('contextUnready')
    caller.mounts.namespace()
    const manner = mannerOf(context.type, mount)
    // The kernel mounts what was made once. Whether it has is not known then: so it is made anew.
    const anew = isBegun ? { anew: superblockRequest(context, false, caller) } : {}
    return act({ verb: 'mountContext', context, made: context.made, attributes, cloexec, manner, ...anew })
  },
}
