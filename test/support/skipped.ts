// Puts the reason why a test is skipped into its name.

import { existsSync, readFileSync } from 'node:fs'
import { capMask } from '../../src/abi/credentials.ts'
import { type KernelFeature, kernelFeatures } from '../../src/kernel/probe.ts'
import { statusMask } from '../../src/kernel/procfs/status.ts'

/**
 * The name of a test that `skipIf` skips for a reason: a reader of the results sees what was not tested, and why.
 * scripts/skip-reasons.js counts them.
 *
 * @param why undefined if the test can run
 */
export const withReason = (name: string, why: string | undefined): string =>
  why === undefined ? name : `${name} [skipped: ${why}]`

/** Why a test that asks where a task is in the kernel, or sees its calls from there, cannot run here. */
export const untraced = existsSync('/proc/self/syscall')
  ? undefined
  : 'this kernel does not trace calls (HAVE_ARCH_TRACEHOOK)'

/** Why a test in which limits are raised cannot run here. */
export const cannotRaiseLimits =
  (statusMask(readFileSync('/proc/self/status', 'latin1'), 'CapEff') & capMask('SYS_RESOURCE')) === 0n
    ? 'root of this machine lacks CAP_SYS_RESOURCE'
    : undefined

/** Why a test that needs this type of file system, which is never a module, cannot run here. */
export const lacksFileSystem = (type: string): string | undefined =>
  readFileSync('/proc/filesystems', 'latin1').includes(`\t${type}\n`) ? undefined : `this kernel has no ${type}`

/** Why a test that needs these features of the kernel cannot run here; undefined if it can. */
export function lacks(...features: readonly KernelFeature[]): string | undefined {
  const lacking = features.filter((name) => !kernelFeatures[name]())
  return lacking.length ? `this kernel lacks ${lacking.join(', ')}` : undefined
}
