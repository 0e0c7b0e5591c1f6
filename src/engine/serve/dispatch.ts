import { architectures } from '../../abi/syscalls.ts'
import type { Syscall } from '../../calls/syscall.ts'
import { handlers } from '../../syscalls/index.ts'

/** The handlers for the calls of one architecture. */
export interface Route {
  readonly bits: 32 | 64
  /** Indexed by the number of the call. */
  readonly handlers: readonly (Syscall<unknown> | undefined)[]
}

/** Maps AUDIT_ARCH_* to routes. Calls with another architecture or number are continued. */
export const routes: ReadonlyMap<number, Route> = new Map(
  Object.values(architectures).map(({ audit, bits, numbers }): [number, Route] => {
    const table: (Syscall<unknown> | undefined)[] = []
    for (const handler of handlers) {
      const nr = (numbers as Readonly<Record<string, number>>)[handler.name]
      if (nr !== undefined) table[nr] = handler
    }
    return [audit, { bits, handlers: table }]
  }),
)
