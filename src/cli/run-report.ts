import type { Dev, Mode } from '../abi/brand.ts'
import { errnoName, errnos } from '../abi/errno.ts'
import { fileType, S_IFCHR } from '../abi/stat.ts'
import { syscallName } from '../abi/syscalls.ts'
import { explain } from '../calls/reasons.ts'
import { type CallRecord, decodeTexts, isRefusal, kindOf, reasonOf } from '../calls/record.ts'
import { type SpelledArguments, spell } from '../calls/spell.ts'
import { type WantedKey, wantedKey } from '../memories/refusal-view.ts'
import { allowedBy, listable } from '../policy/attributes.ts'
import { GRANTED, harmless, written } from '../policy/devices.ts'
import { type CallName, callOf, type KeyName } from '../policy/keys.ts'
import type { Policy } from '../policy/policy.ts'
import { writtenLimit } from '../policy/resource-limits.ts'
import type { WrittenFiles } from '../runtimes/launch/root.ts'
import { handlers } from '../syscalls/index.ts'

/** How often something was, and the last call. */
export interface Seen {
  readonly count: number
  readonly call: string
}

/** A key without which calls that were done would have been left to the kernel; of a list, one element. */
export interface UsedKey extends WantedKey, Seen {}

/** A key, and the least that it must have. */
export interface Needed {
  readonly key: KeyName
  readonly value: string
}

/** A kind of calls that were refused, or left to the kernel. */
export interface RefusedKind extends Seen {
  /** The same for calls of the same kind in another run. */
  readonly kind: string
  readonly errno?: string
  readonly reason: string
  readonly says: string
  readonly wants?: WantedKey | undefined
  /** All that the call needs, as far as its arguments tell, where that is more. */
  readonly needs?: readonly Needed[] | undefined
}

/** What calls have used and missed. */
export interface SeenCalls {
  readonly used: readonly UsedKey[]
  readonly refused: readonly RefusedKind[]
  /** Calls of further kinds, too many to be kept. */
  readonly unnamed: number
}

/** What one run tells `advise`. */
export interface RunReport extends SeenCalls {
  readonly status: number
  readonly written: WrittenFiles
}

interface DoneCall {
  readonly name: string
  readonly record: CallRecord
  readonly args: SpelledArguments
  readonly policy: Policy
}

const uint32 = (register = 0n): number => Number(BigInt.asUintN(32, register))

/** The index of the argument that names a file system. */
export const TYPE_OF: Readonly<Record<string, number>> = { mount: 2, fsopen: 0 }

/** The index of the argument that names an attribute. */
export const attributeAt = (name: string): number => (name.endsWith('at') ? 3 : 1)

/** Returns the name of an attribute as it was recorded. */
const attributeIn = (call: string, { texts }: SpelledArguments): string =>
  Buffer.from(decodeTexts(texts).get(attributeAt(call))?.bytes ?? []).toString('latin1')

/** Which options of a call one call needs, beside the key of the call. */
const optionsOf: { readonly [Call in CallName]?: (call: DoneCall) => readonly WantedKey[] } = {
  mknod({ name, args, policy: { mknod } }) {
    const [mode, dev] = (args.args ?? []).slice(name === 'mknod' ? 1 : 2).map(uint32) as [Mode, Dev]
    const isListed = fileType(mode) === S_IFCHR && mknod?.devices.has(dev) === true
    if (mknod?.devices.has(GRANTED) && !isListed) return [{ key: 'mknod.devices', value: GRANTED }]
    return harmless.includes(dev) ? [] : [{ key: 'mknod.devices', value: written(dev) }]
  },
  bpf: () => [{ key: 'bpf.devices', value: 'true' }],
  mount({ name, args, policy: { mount } }) {
    const text = decodeTexts(args.texts).get(TYPE_OF[name] ?? -1)
    const type = text && Buffer.from(text.bytes).toString('latin1')
    const program = mount?.fuse.get(type ?? '')
    if (program !== undefined) return [{ key: 'mount.fuse', value: `${type}=${program}` }]
    return type !== undefined && mount?.allowed.has(type) ? [{ key: 'mount.allowed', value: type }] : []
  },
  sched_setscheduler({ name, record }) {
    if (name === 'ioprio_set') return [{ key: 'sched_setscheduler.ioprio', value: 'true' }]
    if (name === 'setpriority')
      return [{ key: 'sched_setscheduler.min_nice', value: `${Math.min(LEAST_NICE, record.a | 0)}` }]
    return [{ key: 'sched_setscheduler.max_priority', value: `${Math.max(LEAST_PRIORITY, record.a)}` }]
  },
  rlimits({ record, policy: { rlimits } }) {
    const most = rlimits?.allowed.get(record.a)
    return most === undefined ? [] : [{ key: 'rlimits.allowed', value: writtenLimit(record.a, most) }]
  },
  setxattr({ name, args, policy: { setxattr } }) {
    const entry = allowedBy(setxattr?.allowed ?? new Set(), attributeIn(name, args))
    const isRead = /^[lf]?(get|list)/.test(name) || (/^[lf]?remove/.test(name) && entry === undefined)
    return [
      ...(entry === undefined ? [] : [{ key: 'setxattr.allowed' as const, value: entry }]),
      ...(isRead ? [{ key: 'setxattr.read' as const, value: 'true' }] : []),
    ]
  },
}
const LEAST_PRIORITY = 1
const LEAST_NICE = -1

/** Returns the key that turns a call on; undefined for a call that is not served. */
export const familyOf = (name: string | undefined): CallName | undefined =>
  callOf(handlers.find((handler) => handler.name === name)?.key ?? 'mode')

/** The same for a call as it is shown: `mknodat(AT_FDCWD, ...)`. */
export const familyOfShown = (call: string): CallName | undefined => familyOf(/^\w+/.exec(call)?.[0])

/** Whether a call was done for its caller, or would have been in observe mode. */
export const isDone = ({ verdict, reason }: Pick<CallRecord, 'verdict' | 'reason'>): boolean =>
  (verdict === 'act' && reason !== 'kernelAnswered') || reason === 'observedAct'

/** Whether the kernel's errno is that of a call which is served: without its key, it would be another one. */
const isServedAnswer = (name: string, { reason, errno }: CallRecord): boolean =>
  reason === 'kernelAnswered' && errno === errnos.ENODATA && /removexattr/.test(name)

/** Returns the keys without which this call, which was done, would have been left to the kernel. */
function neededFor(call: DoneCall): readonly WantedKey[] {
  const family = familyOf(call.name)
  return family ? [{ key: family, value: 'true' }, ...(optionsOf[family]?.(call) ?? [])] : []
}

/** Kinds of refusals and used keys that are kept: the container chooses the numbers in them. */
const LIMIT = 1000

/** Collects for `advise` what the calls of one run used and missed. */
export class RunObserver {
  readonly #used = new Map<string, UsedKey>()
  readonly #refused = new Map<string, RefusedKind>()
  #unnamed = 0

  add(record: CallRecord, args: SpelledArguments, policy: Policy): void {
    const { arch, nr } = record
    const name = syscallName(arch, nr)
    const call = spell(arch, nr, args)
    if (name !== undefined && (isDone(record) || isServedAnswer(name, record))) {
      for (const each of neededFor({ name, record, args, policy }))
        this.#count(this.#used, `${each.key}=${each.value}`, { ...each, call })
    } else if (isRefusal(record)) {
      const kind = kindOf(record).join(' ')
      this.#count(this.#refused, kind, { kind, call, ...describe(record), wants: wantedBy(record, name, args) })
    }
  }

  get seen(): SeenCalls {
    return { used: [...this.#used.values()], refused: [...this.#refused.values()], unnamed: this.#unnamed }
  }

  #count<T extends Seen>(all: Map<string, T>, is: string, seen: Omit<T, 'count'>): void {
    const known = all.get(is)
    if (known || all.size < LIMIT) all.set(is, { ...seen, count: (known?.count ?? 0) + 1 } as T)
    else this.#unnamed++
  }
}

/** The key that would allow a refused call. A reason may have only a part of a name, and the arguments have all. */
function wantedBy(record: CallRecord, call: string | undefined, args: SpelledArguments): WantedKey | undefined {
  const name =
    record.reason === 'attributeNotListed' && call !== undefined ? listable(attributeIn(call, args)) : undefined
  return name === undefined ? wantedKey(reasonOf(record)) : { key: 'setxattr.allowed', value: name }
}

const describe = (record: CallRecord): Pick<RefusedKind, 'errno' | 'reason' | 'says'> => ({
  ...(record.errno === 0 ? {} : { errno: errnoName(record.errno) }),
  reason: record.reason,
  says: explain(reasonOf(record)).says,
})
