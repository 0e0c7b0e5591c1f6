import { writeFileSync } from 'node:fs'
import { barOpening as program } from '../../abi/bpf.ts'
import { BPF_F_ALLOW_MULTI, PROG_INFO, TAG_BYTES } from '../../abi/bpf-attr.ts'
import type { Dev } from '../../abi/brand.ts'
import { major, minor } from '../../abi/dev.ts'
import { errno } from '../../abi/errno.ts'
import { phases, steps } from '../../calls/steps.ts'
import { attachedPrograms, attachProgram, loadDeviceProgram, objectInfo, programById } from '../../kernel/bpf.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { BpfProgramStore } from '../programs/bpf-program-store.ts'
import { cgroupProblem, foreignProcesses, isNested, lastingForeignProcesses } from '../programs/cgroup-lookup.ts'

/** Number of looks at a cgroup in which a runtime may just be starting a process. */
const LOOKS = 30

/** What the serving thread provides. */
interface BarContext {
  readonly identity: ThreadIdentity
  readonly store: BpfProgramStore
  readonly proc: Handle
  readonly mayBlock: () => void
}

/**
 * Forbids a whole container to open a device, for as long as its cgroup exists: in cgroup v2 by a program, which no
 * descendant cgroup can loosen; else by the rules of v1, which only the host's root can change. A cgroup that may not
 * be the container's own is not touched.
 *
 * @param container a container that `isEnclosed`
 * @returns whether the device is barred now
 */
export function barDevice(dev: Dev, container: Container, context: BarContext): boolean {
  const { identity, store, mayBlock } = context
  const { cgroup, devices } = container.handles ?? {}
  mayBlock()
  const bar = (): boolean =>
    tried(() => isOwn(cgroup, container, context) && attachOnce(cgroup!, dev, identity)) ||
    tried(() => isOwn(devices, container, context) && deny(devices!, dev, identity))
  identity.begin(phases.barring)
  try {
    return store.loading(container.index, mayBlock, bar)
  } finally {
    identity.begin(phases.looking)
  }
}

/**
 * Tells whether no process of the container can be beside its cgroups or above them; only then their rules bind all
 * of it.
 */
export function isEnclosed(container: Container, identity: ThreadIdentity): boolean {
  const { cgroup, devices } = container.handles ?? {}
  const isWhole = (raw: number | undefined): boolean => raw === undefined || !isNested(handleOf(raw), container)
  return identity.searching(() => [cgroup, devices].every(isWhole))
}

/** Runs `bar`, and returns false if the kernel refuses. */
function tried(bar: () => boolean): boolean {
  try {
    return bar()
  } catch (error) {
    if (error instanceof SyscallError || isSystemError(error)) return false
    throw error
  }
}

const isSystemError = (error: unknown): boolean => error instanceof Error && 'syscall' in error

/** Tells whether a cgroup holds processes of the container only. */
function isOwn(raw: number | undefined, container: Container, { identity, proc, mayBlock }: BarContext): boolean {
  if (raw === undefined) return false
  const group = handleOf(raw)
  identity.with(steps.lookClosely)
  const look = () => foreignProcesses(group, container.userns, proc, mayBlock)
  return !cgroupProblem(group) && !lastingForeignProcesses(LOOKS, mayBlock, look)
}

/** Attaches the program unless the previous engine has done so. A program's tag is a digest of its instructions. */
function attachOnce(raw: number, dev: Dev, identity: ThreadIdentity): boolean {
  const group = handleOf(raw)
  identity.with(steps.changePrograms)
  using ours = loadDeviceProgram(program(dev))
  const tag = tagOf(ours)
  identity.with(steps.askPrograms)
  const { ids } = attachedPrograms(group)
  if (ids.some((id) => tagOfNumber(id, identity).equals(tag))) return true
  identity.with(steps.changePrograms)
  attachProgram(group, ours, BPF_F_ALLOW_MULTI)
  return true
}

function tagOfNumber(id: number, identity: ThreadIdentity): Buffer {
  identity.with(steps.findProgram)
  using program = programById(id)
  if (!program) throw new SyscallError('bpf', errno('ENOENT'))
  identity.with(steps.askPrograms)
  return tagOf(program)
}

const tagOf = (of: Handle): Buffer => Buffer.from(objectInfo(of).subarray(PROG_INFO.tag, PROG_INFO.tag + TAG_BYTES))

/** Denies reading and writing; making the device node stays allowed. */
function deny(raw: number, dev: Dev, identity: ThreadIdentity): boolean {
  identity.with(steps.denyDevice)
  writeFileSync(`/proc/self/fd/${raw}/devices.deny`, `c ${major(dev)}:${minor(dev)} rw`)
  return true
}

const handleOf = (raw: number): Handle => ({ raw, [Symbol.dispose]: () => {} })
