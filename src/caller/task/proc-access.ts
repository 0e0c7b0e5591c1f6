import type { Handle } from '../../kernel/handle.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { ProcNames } from './proc-names.ts'

/** What a thread needs to look at tasks in procfs: made once. */
export interface ProcAccess {
  readonly identity: ThreadIdentity
  /** The host's /proc. */
  readonly proc: Handle
  readonly names: ProcNames
  /** Where a status file is read into. */
  readonly status: Buffer
}
