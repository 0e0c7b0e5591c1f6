import type { Handle } from '../../kernel/handle.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { CallerName } from './caller-name.ts'
import type { ProcNames } from './proc-names.ts'

/** What a thread needs to inspect tasks in procfs; it is made once per thread. */
export interface ProcAccess {
  readonly identity: ThreadIdentity
  /** The host's /proc. */
  readonly proc: Handle
  readonly names: ProcNames
  /** The buffer into which status files are read. */
  readonly status: Buffer
  /** Who makes the call that the thread serves. */
  readonly callerName: CallerName
}
