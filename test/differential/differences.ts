import type { Mismatch } from './compare.ts'

/** Where a container does not get what the kernel would have given it. */
export interface Difference<C> {
  readonly name: string
  /** Why that is wanted, or how it comes about. */
  readonly why: string
  /** false: to be mended. Such are to be deleted, one by one, and not to grow. */
  readonly wanted: boolean
  readonly covers: (mismatch: Mismatch<C>) => boolean
}

/** What a native call gives where only the file system itself is left to be asked. */
const afterItsChecks: ReadonlySet<string> = new Set(['ok', 'ENOSPC'])

/** Was it left to the kernel for one of these reasons, which refuses the privilege after all its other checks? */
export const refusedBy = <C>({ ours, theirs, record }: Mismatch<C>, ...reasons: readonly string[]): boolean =>
  ours === 'EPERM' && afterItsChecks.has(theirs) && record?.verdict === 'continue' && reasons.includes(record.reason)
