import { architectures } from '../../abi/syscalls.ts'
import type { Syscall } from '../../calls/syscall.ts'
import { handlers } from '../../syscalls/handlers.ts'

/** Where a call of one architecture goes. */
export interface Route {
  readonly bits: 32 | 64
  /** Indexed by the number of the call. */
  readonly handlers: readonly (Syscall<unknown> | undefined)[]
}

/** By AUDIT_ARCH_*, built once from the table of handlers. Unknown architectures and numbers are left to the kernel. */
export const routes: ReadonlyMap<number, Route> = new Map(
  Object.values(architectures).map(({ audit, bits, numbers }): [number, Route] => {
    const table: (Syscall<unknown> | undefined)[] = []
    for (const handler of handlers) {
      for (const name of handler.names) {
        const nr = (numbers as Readonly<Record<string, number>>)[name]
        if (nr !== undefined) table[nr] = handler
      }
    }
    return [audit, { bits, handlers: table }]
  }),
)
