import type { Instructed } from '../flags.ts'
import type { OciRuntime, Runtime } from '../runtime.ts'
import { containerd } from './containerd.ts'
import { crun } from './crun.ts'
import { docker } from './docker.ts'
import { kubernetes } from './kubernetes.ts'
import { lxc } from './lxc.ts'
import { podman, podmanTools } from './podman.ts'
import { runc } from './runc.ts'

/**
 * The OCI runtimes, which start containers themselves. `intercede run` takes the first that is installed: crun starts
 * in half the time of runc, and lets the kernel wait for our answer when a signal comes.
 */
export const ociRuntimes: readonly OciRuntime[] = [crun, runc]

/** The runtimes that use an OCI runtime, and LXC. */
export const otherRuntimes: readonly Runtime[] = [podman, docker, lxc, containerd, kubernetes]

/** All runtimes, in the order in which help texts and the doctor name them. */
export const runtimes: readonly Runtime[] = [...ociRuntimes, ...otherRuntimes]

/** The runtimes that read profiles in a form of their own. */
export const targets = runtimes.flatMap(({ target }) => target ?? [])
/** The names of the runtimes whose base profiles have rules about capabilities that we must decide. */
export const unresolved = targets.filter(({ resolvesGuards }) => !resolvesGuards).map(({ name }) => name)

/** What reads a profile of Pods, and the filter that they have without one. */
export const { target: podTarget, base: podBase } = kubernetes.instructions

/** The runtimes for which `flags` has instructions, and tools that start containers by way of them. */
export const instructed: readonly Instructed[] = [
  ...runtimes.flatMap(({ name, instructions }) => (instructions ? [{ name, instructions }] : [])),
  ...podmanTools,
]
/** Returns the names of the runtimes whose instructions have a trait. */
export const namesWith = (trait: 'userDirectory' | 'takesFirstId'): readonly string[] =>
  instructed.filter(({ instructions }) => instructions[trait]).map(({ name }) => name)
