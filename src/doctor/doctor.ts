import { capMask } from '../abi/credentials.ts'
import { statusMask } from '../kernel/procfs/status.ts'
import { type Finding, type HostFacts, thisHost } from './host-facts.ts'
import { kernelProbes, type Probe, probes } from './probes.ts'

/** `unknown`: the probe itself failed. */
type Health = 'ok' | 'missing' | 'unknown'

export interface Diagnosis {
  readonly name: string
  readonly health: Health
  readonly needed: boolean
  readonly found: string
  /** What follows from a missing feature, and what to do; empty if all is well. */
  readonly follows: string
  readonly remedy: string
}

export interface Report {
  readonly kernel: string
  readonly arch: string
  readonly node: string
  /** False if it could not look at all that concerns root. */
  readonly isRoot: boolean
  /** True if `run` and `serve` can work here. */
  readonly able: boolean
  /** True if `run` can work here. */
  readonly ableToRun: boolean
  /** True if `serve --user` can work here, in the user namespace of a user. */
  readonly ableForUser: boolean
  /** True if the daemon that runs does not answer. */
  readonly isDown: boolean
  readonly diagnoses: readonly Diagnosis[]
}

function ask(probe: Probe, machine: HostFacts): Finding & { readonly health: Health } {
  try {
    const finding = probe.probe(machine)
    return { ...finding, health: finding.ok ? 'ok' : 'missing' }
  } catch (error) {
    return { ok: false, found: (error as Error).message, health: 'unknown' }
  }
}

/** The same as for a probe that fails for want of rights. */
const UNSEEN = { follows: 'only root can see this', remedy: 'run intercede doctor as root, with sudo' }
const isRoot = ({ read }: HostFacts): boolean =>
  (statusMask(read('/proc/self/status'), 'CapEff') & capMask('SYS_ADMIN')) !== 0n

function diagnose(probe: Probe, machine: HostFacts): Diagnosis & Pick<Finding, 'isDown'> {
  const { health, found = '', remedy: own = probe.remedy, isDown = false } = ask(probe, machine)
  const isUnseen = health === 'unknown' && !isRoot(machine)
  const whole = { ...probe, remedy: (health === 'unknown' && probe.remedyIfUnknown) || own }
  const { follows, remedy } = health === 'ok' ? { follows: '', remedy: '' } : isUnseen ? UNSEEN : whole
  return { name: probe.name, health, needed: probe.needed !== undefined, found, follows, remedy, isDown }
}

/** Most probes read /proc; without it, as in a chroot, they would blame something else. */
const NO_PROC: Diagnosis = {
  ...{ name: '/proc', health: 'missing', needed: true, found: 'not mounted' },
  follows: 'nothing else can be found out, and neither run nor serve can work',
  remedy: 'mount -t proc proc /proc',
}

/** Returns what this kernel and this machine can do, and what to do about the rest. */
export function examine(machine: HostFacts): Report {
  const { release: kernel, arch, node } = machine
  if (machine.read('/proc/self/status') === '')
    return {
      ...{ kernel, arch, node, isRoot: true, able: false, ableToRun: false, ableForUser: false, isDown: false },
      diagnoses: [NO_PROC],
    }
  const findings = probes.map((probe) => diagnose(probe, machine))
  const diagnoses = findings.map(({ isDown: _, ...diagnosis }) => diagnosis)
  const isWell = (needed: Probe['needed']): boolean =>
    probes.every((probe, index) => probe.needed !== needed || diagnoses[index]!.health === 'ok')
  return {
    ...{ kernel, arch, node, isRoot: isRoot(machine) },
    able: isWell(true) && isWell('on the host') && isWell('to serve'),
    ableToRun: isWell(true) && isWell('on the host'),
    ableForUser: isWell(true) && !isWell('on the host'),
    isDown: findings.some(({ isDown }) => isDown),
    diagnoses,
  }
}

/**
 * Checks that this kernel has what `run` and `serve` need.
 *
 * @throws {Error} in the words of the report
 */
export function requireFeatures(machine: HostFacts = thisHost): void {
  for (const probe of kernelProbes.filter(({ needed }) => needed)) {
    const { health, name, follows, remedy } = diagnose(probe, machine)
    if (health === 'missing')
      throw new Error(`Cannot intercept system calls: this kernel lacks ${name}: ${follows}; ${remedy}`)
  }
}
