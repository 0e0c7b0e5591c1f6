import { mkdirSync, statSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'

/** Where a program that only we may read is shown to a process of a container's user namespace. */
const SHOWN_AT = '/run/intercede/program'
const OTHERS_SEARCH = 0o001

/** How to start a program for a user who may only enter what everybody may. */
export interface Reach {
  /** Put before the command; empty if the program can be reached as it is. */
  readonly prefix: readonly string[]
  readonly path: string
}

const everybodySearches = (directory: string): boolean => (statSync(directory).mode & OTHERS_SEARCH) !== 0

/**
 * Makes `program` reachable for any user, who sees its directory in a mount namespace of the process's own: a checkout
 * below /root must work too, and Node loads a program by its path.
 */
export function reach(program: string, searches: (directory: string) => boolean = everybodySearches): Reach {
  const closed = ancestors(program).find((directory) => !searches(directory))
  if (closed === undefined) return { prefix: [], path: program }
  const [next = '', ...rest] = relative(closed, program).split(sep)
  const bind = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
  return {
    prefix: ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', bind, 'sh', join(closed, next), SHOWN_AT],
    path: join(SHOWN_AT, ...rest),
  }
}

/** Creates the place for `reach`; world-readable and empty. */
export function prepareReach(): void {
  mkdirSync(SHOWN_AT, { recursive: true, mode: 0o755 })
}

/** From the innermost to the root. */
function ancestors(path: string): string[] {
  const above = dirname(path)
  return above === path ? [] : [above, ...ancestors(above)]
}
