import { type Cap, capabilities } from '../abi/credentials.ts'

/**
 * Capabilities over files which an act may have in effect, for one inode, if the caller has them itself. They are bits:
 * each combination of a step with some of them is a capability set that is prepared once.
 */
export const OWN = { FSETID: 1, DAC_OVERRIDE: 2, DAC_READ_SEARCH: 4 } as const satisfies Partial<Record<Cap, number>>
type OwnCap = keyof typeof OWN
export const OWN_SETS = 8

/** One thing that a serving thread does with exactly these capabilities in effect. */
export interface Step {
  /** Completes the sentence "cannot …". */
  readonly to: string
  readonly caps: readonly Cap[]
  /** Which of the caller's capabilities may be added: a combination of `OWN`. */
  readonly own: number
  /** The index of this step's sets among all prepared sets. */
  readonly index: number
}

const ownCaps = Object.keys(OWN) as readonly OwnCap[]

/** Returns the capabilities in effect in a step. @param own those of the caller which are added */
export const capsOf = (step: Step, own: number): readonly Cap[] => [
  ...step.caps,
  ...ownCaps.filter((cap) => (own & OWN[cap]) !== 0),
]

/** The capabilities of a thread at home: enough to look at a caller and to become it, none over files. */
const REST: readonly Cap[] = ['SETUID', 'SETGID', 'SYS_CHROOT', 'SYS_PTRACE']
const OVER_FILES = ['DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FSETID'] as const

let count = 0

function step(to: string, caps: readonly Cap[], ...own: readonly OwnCap[]): Step {
  return { to, caps, own: own.reduce((bits, cap) => bits | OWN[cap], 0), index: count++ }
}

/**
 * Every set of capabilities that a serving thread ever has in effect: `ThreadIdentity.with` accepts only a step, and
 * only a step which the thread's current phase declares. docs/guide/security.md is generated from this table.
 */
export const steps = {
  rest: step('rest at home, look at a caller from there, become it and leave it', REST),
  asCaller: step('be the caller', []),
  ownPriority: step('change its own scheduling policy', ['SYS_NICE']),

  look: step('look at the caller as at home', ['SYS_PTRACE']),
  /** CAP_DAC_READ_SEARCH opens what a process may always open in its own directory of procfs. */
  lookClosely: step('look at files that root cannot open without capabilities', ['SYS_PTRACE', 'DAC_READ_SEARCH']),
  stand: step("enter the caller's root directory, which may be closed", ['SYS_CHROOT', 'DAC_READ_SEARCH']),
  /** CAP_DAC_READ_SEARCH is for directories which the host's root may not search. */
  asHostRoot: step("ask a file system whether it maps the host's root", ['SETUID', 'DAC_READ_SEARCH']),
  /** Before Linux 6.4 bpf(2) asks for CAP_BPF for every command. */
  askPrograms: step('ask which device programs are attached, and what they are', ['BPF', 'NET_ADMIN']),

  /** /proc/TID/mem belongs to the caller, hence CAP_DAC_OVERRIDE. */
  reach: step("open the caller's memory to write there", ['SYS_PTRACE', 'DAC_OVERRIDE']),

  inDirectory: step('look, make or remove in a directory as the caller', [], ...OVER_FILES),
  makeNode: step('make the node', ['MKNOD'], ...OVER_FILES),
  makeOwnNode: step('make the node on a file system of ours', ['MKNOD', 'CHOWN']),
  makeMount: step('make that file system, and a mount of only the node', ['SYS_ADMIN']),
  attachMount: step("change a mount in the caller's mount namespace", ['SYS_ADMIN', 'SYS_CHROOT']),
  /** For `trusted.*` the kernel does not check permissions of the file: linux/fs/xattr.c xattr_permission() */
  attribute: step('get, set or remove the attribute', ['SYS_ADMIN']),
  schedule: step('change the scheduling of the task', ['SYS_NICE']),
  limit: step('change the limits of the process', ['SYS_RESOURCE']),
  /** With more capabilities, the verifier would allow a program more. */
  changePrograms: step('load, attach or detach programs', ['BPF', 'NET_ADMIN']),
  describeProgram: step('ask what the program is', ['BPF']),
  findProgram: step('open a program or link by its number', ['SYS_ADMIN']),
  askMounter: step('have a mounter do it', []),
  askRuntime: step("have the container's runtime start its program", []),
  countApart: step('make a pipe that counts for no user', ['SETUID']),
} as const satisfies Record<string, Step>

/** All capabilities that can ever be in effect; the permitted set of a serving thread has no others. */
export const permitted: readonly Cap[] = capabilities.filter((cap) =>
  Object.values(steps).some((each) => capsOf(each, each.own).includes(cap)),
)

/**
 * The capabilities of the engine's main thread, which serves no call: those which its threads inherit, CAP_SETPCAP to
 * set theirs up, and CAP_KILL to kill the descendants of a program in a container. Its bounding set stays complete,
 * since it starts the runtimes of containers, which need more.
 */
export const permittedMain: readonly Cap[] = [...permitted, 'KILL', 'SETPCAP']

/**
 * A part of a call, and the steps with capabilities in effect which are allowed in it. Between steps a thread is either
 * the caller or at home, and may change between the two.
 */
export class Phase {
  readonly name: string
  readonly steps: readonly Step[]
  readonly #bits: number

  constructor(name: string, declared: readonly Step[]) {
    this.name = name
    this.steps = declared
    this.#bits = [steps.asCaller, ...declared].reduce((bits, { index }) => bits | (1 << index), 0)
  }

  allows({ index }: Step): boolean {
    return (this.#bits & (1 << index)) !== 0
  }
}

/** The phases of a call, except for those of the acts: each verb has a phase with its `Verb.steps`. */
export const phases = {
  /** The phase between two calls. */
  resting: new Phase('resting', [steps.ownPriority]),
  /** The phase from the receipt of a call to its verdict. */
  looking: new Phase('looking', [...[steps.look, steps.lookClosely, steps.stand, steps.asHostRoot, steps.askPrograms]]),
  /** The phase in which an act's results are written to the caller's memory. */
  answering: new Phase('answering', [steps.reach]),
} as const satisfies Record<string, Phase>
