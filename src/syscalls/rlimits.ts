import { capNumber } from '../abi/credentials.ts'
import { decodeLimit, limitSize, RLIM_NLIMITS } from '../abi/rlimit.ts'
import type { Registers } from '../calls/caller.ts'
import { packLimit } from '../calls/packed.ts'
import { EXACT, type Syscall } from '../calls/syscall.ts'
import { act, continueWith } from '../calls/verdict.ts'
import { isNeverRaised } from '../policy/resource-limits.ts'

interface Request {
  readonly pid: number
  readonly resource: number
  /** The address of the new limits. */
  readonly at: bigint
  /** Where the old limits go; 0 for nowhere. */
  readonly old: bigint
  /** The width of a limit; undefined for that of the caller's registers. */
  readonly bits?: 64
}

/** How one of the two calls differs from the other. */
interface Form extends Pick<Syscall<Request>, 'name' | 'when' | 'trapped'> {
  request(args: Registers): Request
}

const SETS = 'it is in memory whether the hard limit is raised'

const forms: readonly Form[] = [
  {
    name: 'prlimit64',
    when: [[{ arg: 2, mask: EXACT, equals: 0n, negated: true }]],
    trapped: `limits are set, not only read: ${SETS}`,
    request: (args) => ({
      ...{ pid: args.int(0), resource: args.uint(1), at: args.pointer(2), old: args.pointer(3) },
      bits: 64,
    }),
  },
  {
    name: 'setrlimit',
    trapped: `all: ${SETS}`,
    request: (args) => ({ pid: 0, resource: args.uint(0), at: args.pointer(1), old: 0n }),
  },
]

const family = ({ request, ...form }: Form): Syscall<Request> => ({
  ...form,
  key: 'rlimits',
  screen(args, { rlimits }) {
    if (!rlimits) return continueWith('keyOff')
    const { at, resource, pid } = request(args)
    if (at === 0n) return continueWith('limitNotRaised')
    if (pid < 0) return continueWith('noSuchTask')
    return resource < RLIM_NLIMITS ? undefined : continueWith('invalidArguments')
  },
  decode: request,
  /** Asks for the present limit first: most programs lower limits, which the kernel does for anybody. */
  decide({ pid, resource, at, old, bits }, caller, { rlimits }) {
    if (!rlimits) return continueWith('keyOff')
    const width = bits ?? caller.bits
    const limit = decodeLimit(caller.bytes(at, limitSize(width)), width)
    if (limit.soft > limit.hard) return continueWith('invalidArguments')
    const task = caller.task(pid)
    if (limit.hard <= (caller.hardLimit(task, resource) ?? -1n)) return continueWith('limitNotRaised')
    // Before the list, which changes nothing then.
    if (!caller.canRaiseLimits) return continueWith('weLackCapability', capNumber('SYS_RESOURCE'))
    if (isNeverRaised(resource)) return continueWith('limitNeverServed', resource)
    const most = rlimits.allowed.get(resource)
    if (most === undefined || limit.hard > most) return continueWith('limitTooHigh', ...packLimit(resource, limit.hard))
    if (!caller.inInitialUserns) return continueWith('childUserns')
    if (!caller.holds('SYS_RESOURCE')) return continueWith('lacksCapability', capNumber('SYS_RESOURCE'))
    return act({ verb: 'limit', task, resource, limit, old }, 'done', resource)
  },
})

/**
 * The handlers of prlimit64(2) and setrlimit(2). Only to raise a hard limit the kernel asks CAP_SYS_RESOURCE in the
 * initial user namespace: linux/kernel/sys.c do_prlimit(). Over another user's process it asks the same capability in
 * the user namespace of that process, which the caller has over every process of the container.
 */
export const rlimits = forms.map(family)
