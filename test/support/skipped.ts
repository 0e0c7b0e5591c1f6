// Puts the reason why a test is skipped into its name.

import { type KernelFeature, kernelFeatures } from '../../src/kernel/probe.ts'

/**
 * The name of a test that `skipIf` skips for a reason: a reader of the results sees what was not tested, and why.
 * scripts/skip-reasons.js counts them.
 *
 * @param why undefined if the test can run
 */
export const withReason = (name: string, why: string | undefined): string =>
  why === undefined ? name : `${name} [skipped: ${why}]`

/** Why a test that needs these features of the kernel cannot run here; undefined if it can. */
export function lacks(...features: readonly KernelFeature[]): string | undefined {
  const lacking = features.filter((name) => !kernelFeatures[name]())
  return lacking.length ? `this kernel lacks ${lacking.join(', ')}` : undefined
}
