// Puts the reason why a test is skipped into its name.

/**
 * The name of a test that `skipIf` skips for a reason: a reader of the results sees what was not tested, and why.
 * scripts/skip-reasons.js counts them.
 *
 * @param why undefined if the test can run
 */
export const withReason = (name: string, why: string | undefined): string =>
  why === undefined ? name : `${name} [skipped: ${why}]`
