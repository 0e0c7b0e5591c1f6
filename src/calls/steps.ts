import { type Cap, capabilities } from '../abi/capability.ts'

/**
 * Capabilities over files that an act may borrow of its caller, for one inode of the container, as bits: each combination
 * of a step with some of them is a set that is prepared once.
 */
export const OWN = { FSETID: 1, DAC_OVERRIDE: 2, DAC_READ_SEARCH: 4 } as const satisfies Partial<Record<Cap, number>>
type OwnCap = keyof typeof OWN
export const OWN_SETS = 8

/** One thing that a serving thread does with capabilities in effect: exactly with these. */
export interface Step {
  /** Completes "cannot ...". */
  readonly to: string
  readonly caps: readonly Cap[]
  /** What may be added of the caller's own: a combination of `OWN`. */
  readonly own: number
  /** Of the sets of this step among all that are prepared. */
  readonly index: number
}

const ownCaps = Object.keys(OWN) as readonly OwnCap[]

/** @param own what is added of the caller's own */
export const capsOf = (step: Step, own: number): readonly Cap[] => [
  ...step.caps,
  ...ownCaps.filter((cap) => (own & OWN[cap]) !== 0),
]

/** Enough to look at a caller and to become it. Nothing that overrides permissions of files. */
const REST: readonly Cap[] = ['SETUID', 'SETGID', 'SYS_CHROOT', 'SYS_PTRACE']
const OVER_FILES = ['DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FSETID'] as const

let count = 0

function step(to: string, caps: readonly Cap[], ...own: readonly OwnCap[]): Step {
  return { to, caps, own: own.reduce((bits, cap) => bits | OWN[cap], 0), index: count++ }
}

/**
 * Every set of capabilities that a serving thread ever has in effect. Nothing else can be: `ThreadIdentity.with` takes a
 * step, and only one that the phase declares in which the thread is. docs/security.md is generated from it.
 */
export const steps = {
  rest: step('rest at home, look at a caller from there, become it and leave it', REST),
  asCaller: step('be the caller', []),
  ownPriority: step('change its own scheduling policy', ['SYS_NICE']),

  look: step('look at the caller as from home', ['SYS_PTRACE']),
  /** Also what a process may look at in its own directory of procfs whatever its ids and capabilities. */
  lookClosely: step('look at what is closed to root without capabilities', ['SYS_PTRACE', 'DAC_READ_SEARCH']),
  stand: step("stand in the caller's root directory, which may be closed", ['SYS_CHROOT', 'DAC_READ_SEARCH']),
  /** Also in a directory that the host's root may not search. */
  asHostRoot: step("ask a file system whether it maps the host's root", ['SETUID', 'DAC_READ_SEARCH']),
  /** Before 6.4 bpf(2) asks for CAP_BPF whatever the command is. */
  askPrograms: step('ask which device programs are attached, and what they are', ['BPF', 'NET_ADMIN']),

  /** That is a file of its own. */
  reach: step("open the caller's memory to write there", ['SYS_PTRACE', 'DAC_OVERRIDE']),

  inDirectory: step('look, make or remove in a directory as the caller', [], ...OVER_FILES),
  makeNode: step('make the node', ['MKNOD'], ...OVER_FILES),
  makeOwnNode: step('make the node on a file system of ours', ['MKNOD', 'CHOWN']),
  makeMount: step('make that file system, and a mount of the node alone', ['SYS_ADMIN']),
  attachMount: step("change a mount in the caller's mount namespace", ['SYS_ADMIN', 'SYS_CHROOT']),
  /** For `trusted.*` no permission of the file itself counts: linux/fs/xattr.c xattr_permission() */
  attribute: step('get, set or remove the attribute', ['SYS_ADMIN']),
  schedule: step('change the scheduling of the task', ['SYS_NICE']),
  openContext: step('open the context', ['SYS_ADMIN']),
  /** With more the verifier would let a program do more. */
  changePrograms: step('load, attach or detach programs', ['BPF', 'NET_ADMIN']),
  describeProgram: step('ask what the program is', ['BPF']),
  findProgram: step('open a program by its number', ['SYS_ADMIN']),
  /** The rules of v1 ask for CAP_SYS_ADMIN, and their file may belong to the container. */
  denyDevice: step('forbid a device to a group of cgroup v1', ['SYS_ADMIN', 'DAC_OVERRIDE']),
  askMounter: step('have a mounter do it', []),
  askRuntime: step("have the container's runtime start its program", []),
  countApart: step('make a pipe that is counted for nobody', ['SETUID']),
} as const satisfies Record<string, Step>

/** All that can ever be in effect: a serving thread is permitted no more. */
export const permitted: readonly Cap[] = capabilities.filter((cap) =>
  Object.values(steps).some((each) => capsOf(each, each.own).includes(cap)),
)

/**
 * The engine's main thread, which serves no call: what its threads shall have, CAP_SETPCAP to settle them, and CAP_KILL to end
 * what a container's program has started. Its bounding set stays: the runtime of a container, which it starts, needs that.
 */
export const permittedMain: readonly Cap[] = [...permitted, 'KILL', 'SETPCAP']

/**
 * A part of a call, and what may be done with capabilities in effect during it. Between its steps a thread is the caller, or
 * rests at home, and it may go from one to the other.
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

/** The phases of a call beside the act, which is one of its own: see `Verb.steps`. */
export const phases = {
  /** Between two calls. */
  resting: new Phase('resting', [steps.ownPriority]),
  /** From the receipt of a call to its verdict. */
  looking: new Phase('looking', [steps.look, steps.lookClosely, steps.stand, steps.asHostRoot, steps.askPrograms]),
  /** Before a node is made that nobody shall open: a device of the host is closed to the container. */
  barring: new Phase('barring', [
    steps.lookClosely,
    steps.askPrograms,
    steps.changePrograms,
    steps.findProgram,
    steps.denyDevice,
  ]),
  /** What an act has for the caller's memory. */
  answering: new Phase('answering', [steps.reach]),
} as const satisfies Record<string, Phase>
