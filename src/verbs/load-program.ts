import { verifierSteps } from '../abi/bpf.ts'
import { LOAD as MEMBERS } from '../abi/bpf-attr.ts'
import { errno } from '../abi/errno.ts'
import type { Verb, Verbs, Write } from '../calls/act.ts'
import { why } from '../calls/reason.ts'
import { steps } from '../calls/steps.ts'
import { type Loaded, loadProgram as load } from '../kernel/bpf.ts'

type Load = Verbs['loadProgram']
/** Maximum number of bytes of a verifier log; libbpf and Go's library do not ask for more at first. */
const LOG_LIMIT = 16 * 1024 * 1024
/** Maximum size of a log buffer for the kernel, kernel/bpf/log.c bpf_verifier_log_attr_valid(). */
const LOG_SIZE_MAX = 0xffff_ffff >>> 2
/** How many steps of the verifier take less than a millisecond, also on a slow machine. */
const SHORT_STEPS = 512
/** A non-null buffer for an invalid size, for which the kernel answers EINVAL without writing to it. */
const INVALID_BUFFER = new Uint8Array(1)

export const loadProgram: Verb<Load> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.countApart, steps.findProgram],
  safe:
    "The verifier gets only programs for a cgroup's devices, with at most 4,096 instructions that only calculate, " +
    'jump and read their context and stack. The thread has exactly the two capabilities that the kernel requires: ' +
    "with more, the verifier would let a program read the kernel's memory. Nothing that the caller passes is " +
    'looked up in our own tables or memory. The container gets a pipe that represents the program: with a ' +
    'descriptor of the program itself, anyone could attach it to any cgroup of the host.',
  run(act, caller) {
    const log = logBufferFor(act)
    const members = { ...act.load, attr: withLogSize(act, log), log }
    const loaded = caller.devicePrograms.loading(isShort(act), () =>
      caller.act(steps.changePrograms, () => load(members)),
    )
    const writes = writesOf(act, loaded, log)
    if (!loaded.fd) return { value: 0n, errno: loaded.errno!, writes }
    const standIn = caller.devicePrograms.standIn(loaded.fd)
    if (!standIn) return { value: 0n, errno: errno('ENOMEM'), why: why('tooManyPrograms'), writes }
    caller.note(standIn.note)
    return { value: 0n, fd: standIn.fd, cloexec: true, writes }
  },
  /** What the caller has got is the last thing that it got: the writes came before. */
  recover: (_act, _caller, { given }) => (given === undefined ? undefined : { value: BigInt(given) }),
}

/** Returns whether the verifier needs less than a millisecond: it walks few instructions, and writes no log of them. */
const isShort = ({ load: { instructions }, log }: Load): boolean =>
  !log && instructions !== undefined && verifierSteps(instructions) <= SHORT_STEPS

function logBufferFor({ log }: Load): Uint8Array | undefined {
  if (!log) return undefined
  return log.size === 0 || log.size > LOG_SIZE_MAX ? INVALID_BUFFER : new Uint8Array(Math.min(log.size, LOG_LIMIT))
}

function withLogSize({ load: { attr }, log }: Load, logBuffer: Uint8Array | undefined): Uint8Array {
  if (!log || !logBuffer || logBuffer === INVALID_BUFFER) return attr
  const copy = Uint8Array.from(attr)
  new DataView(copy.buffer).setUint32(MEMBERS.logSize, logBuffer.length, true)
  return copy
}

/**
 * Returns what to write to the caller's memory. The kernel reports the size of a log even if it cannot be written,
 * and writes as much as fits.
 */
function writesOf({ log, logSizeAt }: Load, { logSize }: Loaded, logBuffer: Uint8Array | undefined): readonly Write[] {
  const writes: Write[] = []
  if (logSize > 0 && logSizeAt !== undefined) writes.push({ at: logSizeAt, bytes: word(logSize) })
  if (log && logBuffer && logBuffer !== INVALID_BUFFER) {
    const length = logSize > 0 ? Math.min(logSize, logBuffer.length) : logBuffer.indexOf(0) + 1
    const isWritten = logSize > 0 || logBuffer[0] !== 0
    if (isWritten) writes.push({ at: log.at, bytes: logBuffer.subarray(0, length) })
  }
  return writes
}

const word = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)
