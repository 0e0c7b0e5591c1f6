import {
  ATTR_MAX,
  attrView,
  BPF,
  BPF_CGROUP_DEVICE,
  BPF_F_QUERY_EFFECTIVE,
  BPF_MAP_CREATE,
  BPF_TOKEN_CREATE,
  BY_ID,
  INFO,
  QUERY,
  strayByte,
} from '../abi/bpf.ts'
import { type Cap, capNumber } from '../abi/credentials.ts'
import type { Caller, MemoryReader, Registers } from '../calls/caller.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import type { Condition, Syscall } from '../calls/syscall.ts'
import { act, continueWith, type Verdict, verdictOfError } from '../calls/verdict.ts'
import { delegates, type Policy } from '../policy/policy.ts'
import { attach, createLink, detach, detachLink, noGroup, updateLink } from './bpf-cgroup.ts'
import { type Argument, type Command, deny, ours } from './bpf-command.ts'
import { load, readProgram } from './bpf-load.ts'
import { judgeToken, tokenCommands } from './bpf-token.ts'
import { delegatingKeys } from './delegate.ts'

/**
 * BPF_PROG_QUERY of one cgroup. BPF_F_QUERY_EFFECTIVE is refused, since it would reveal programs of the cgroups
 * above.
 */
const list: Command = {
  needs: [['SYS_ADMIN'], ['NET_ADMIN']],
  foreign: (view) => {
    const type = view.getUint32(QUERY.type, true)
    return type === BPF_CGROUP_DEVICE ? undefined : continueWith('bpfAttachType', type)
  },
  decide({ at, size, view }, caller) {
    const flags = view.getUint32(QUERY.queryFlags, true)
    if (flags !== 0) return deny(flags === BPF_F_QUERY_EFFECTIVE ? 'EPERM' : 'EINVAL', 'bpfFlags', flags)
    const target = caller.devicePrograms.group(view.getUint32(QUERY.target, true))
    if (typeof target === 'string') return noGroup(target)
    return act({
      verb: 'listPrograms',
      group: target.group,
      attachFlagsAt: at + BigInt(QUERY.attachFlags),
      countAt: at + BigInt(QUERY.count),
      idsAt: view.getBigUint64(QUERY.ids, true),
      flagsOfEachAt: view.getBigUint64(QUERY.flagsOfEach, true),
      ...(size >= QUERY.revision + 8 ? { revisionAt: at + BigInt(QUERY.revision) } : {}),
      room: view.getUint32(QUERY.count, true),
    })
  },
}

/** BPF_PROG_GET_FD_BY_ID of a program that the container loaded through us. */
const openById: Command = {
  needs: [['SYS_ADMIN']],
  foreign: ours,
  decide({ view }, { devicePrograms }) {
    const program = devicePrograms.numbered(view.getUint32(BY_ID.id, true))
    return program ? act({ verb: 'openProgram', program }) : continueWith('notOurs')
  },
}

/**
 * BPF_OBJ_GET_INFO_BY_FD: the kernel describes every object to the holder of its descriptor; only we can describe the
 * program behind a stand-in.
 */
const objectInfoById: Command = {
  needs: [[]],
  foreign: ours,
  decide({ at, view }, { devicePrograms }) {
    const program = devicePrograms.named(view.getUint32(INFO.object, true))
    if (typeof program === 'string') return continueWith(program)
    return act({
      verb: 'describeProgram',
      program,
      infoAt: view.getBigUint64(INFO.info, true),
      length: view.getUint32(INFO.length, true),
      lengthAt: at + BigInt(INFO.length),
    })
  },
}

interface Parsed extends Argument {
  readonly attr: Uint8Array
}
/** `left` says why the registers or the memory alone leave a command to the kernel. */
type Request = { readonly number: number } & (Parsed | { readonly left: Verdict })

const COMMAND = 0
const ATTR = 1
const SIZE = 2

const commands: ReadonlyMap<number, Command> = new Map<number, Command>([
  [BPF.PROG_LOAD, load],
  [BPF.PROG_ATTACH, attach],
  [BPF.PROG_DETACH, detach],
  [BPF.PROG_QUERY, list],
  [BPF.PROG_GET_FD_BY_ID, openById],
  [BPF.OBJ_GET_INFO_BY_FD, objectInfoById],
  [BPF.LINK_CREATE, createLink],
  [BPF.LINK_UPDATE, updateLink],
  [BPF.LINK_DETACH, detachLink],
])

/** Matches a command. `cmd` is an int, so the kernel ignores the upper 32 bits of its register. */
const isCommand = (command: number): readonly Condition[] => [
  { arg: COMMAND, mask: 0xffff_ffffn, equals: BigInt(command) },
]

/** bpf(2): lets a container control device access in the cgroups that it makes below its own. */
export const bpf: Syscall<Request> = {
  name: 'bpf',
  key: 'bpf.devices',
  when: [...Object.values(BPF), BPF_MAP_CREATE, BPF_TOKEN_CREATE].map(isCommand),
  also: { keys: delegatingKeys, when: tokenCommands.map(isCommand) },
  trapped:
    `the command is ${Object.keys(BPF).join(', ')}; MAP_CREATE and TOKEN_CREATE too, only to explain the refusal; ` +
    'for the keys bpf.delegate_* only PROG_LOAD, MAP_CREATE and TOKEN_CREATE',
  screen: (args, policy) => (tokenCommands.includes(args.int(COMMAND)) ? undefined : leftOf(args, policy)),
  decode(args, memory, policy) {
    const number = args.int(COMMAND)
    const left = leftOf(args, policy)
    if (left) return { number, left }
    try {
      return { number, ...parse(args, memory) }
    } catch (error) {
      return { number, left: verdictOfError(error) }
    }
  },
  decide(request, caller, policy) {
    const verdict = judge(request, caller)
    // In observe mode the kernel gets the call, whose memory may be another by then.
    if (verdict.is !== 'continue' && policy.mode !== 'observe') return verdict
    const isByToken = delegates(policy) && tokenCommands.includes(request.number) && OTHERS.has(verdict.why.code)
    return judgeToken(request.number, caller, policy) ?? (isByToken ? continueWith('tokenDecides') : verdict)
  },
}

/** Why a command is not one for device programs. */
const OTHERS: ReadonlySet<ReasonCode> = new Set(['keyOff', 'bpfMap', 'bpfCommand', 'bpfProgramType'])

/** Returns the verdict if the registers alone leave a command to the kernel. */
function leftOf(args: Registers, policy: Policy): Verdict | undefined {
  if (!policy.bpf?.devices) return continueWith('keyOff')
  if (args.int(COMMAND) === BPF_MAP_CREATE) return continueWith('bpfMap')
  if (!commands.has(args.int(COMMAND))) return continueWith('bpfCommand', args.uint(COMMAND))
  // The kernel answers E2BIG.
  return args.uint(SIZE) > ATTR_MAX ? continueWith('bpfUnknownMember', ATTR_MAX) : undefined
}

function parse(args: Registers, memory: MemoryReader): Parsed {
  const [at, size] = [args.pointer(ATTR), args.uint(SIZE)]
  const attr = memory.bytes(at, size)
  const view = attrView(attr)
  const text = args.int(COMMAND) === BPF.PROG_LOAD ? readProgram(view, memory) : undefined
  return { attr, at, size, view, text }
}

function judge(request: Request, caller: Caller): Verdict {
  if ('left' in request) return request.left
  const { number, attr, view } = request
  const command = commands.get(number)!
  const foreign = command.foreign(view)
  if (foreign) return foreign
  const stray = strayByte(number, attr)
  if (stray && !stray.known) return continueWith('bpfUnknownMember', stray.at)
  const barred = unable(command, caller)
  if (barred) return barred
  return stray ? deny('EINVAL', 'bpfMember', stray.at) : command.decide(request, caller)
}

/**
 * Returns why the caller may not use a command: it lacks capabilities in the container's initial user namespace, as
 * the kernel would check them in the host's, or its cgroup is not its own.
 */
function unable({ needs }: Command, caller: Caller): Verdict | undefined {
  if (!caller.inInitialUserns) return continueWith('childUserns')
  const lacks = (caps: readonly Cap[]): Cap | undefined => caps.find((cap) => !caller.holds(cap))
  const lacking = needs.map(lacks)
  if (lacking.every((cap) => cap !== undefined)) return continueWith('lacksCapability', capNumber(lacking[0]!))
  const { barred } = caller.devicePrograms
  return barred ? continueWith(barred) : undefined
}
