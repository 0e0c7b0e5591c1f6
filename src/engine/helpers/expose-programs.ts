import { statSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'

/** Where programs that only we may read are shown to a process of a container's user namespace, a directory each. */
const SHOWN_AT = '/run/intercede/program'
const OTHERS_SEARCH = 0o001

/** A directory, and where it must be mounted too: that must exist. */
export type ProgramBind = readonly [what: string, place: string]

/** How to start programs for a user who may only enter what everybody may. */
export interface Exposed {
  /** Empty if all can be reached as they are. */
  readonly binds: readonly ProgramBind[]
  /** Where they are then, in the order asked for. */
  readonly paths: readonly string[]
}

const everybodySearches = (directory: string): boolean => (statSync(directory).mode & OTHERS_SEARCH) !== 0

/**
 * Makes programs reachable for any user, who sees their directories in a mount namespace of the process's own: a checkout
 * below /root must work too, and a Node that somebody installed in a home directory; Node loads a program by its path.
 */
export function exposePrograms(
  programs: readonly string[],
  searches: (directory: string) => boolean = everybodySearches,
): Exposed {
  const shown = programs.map((program, index) => show(program, join(SHOWN_AT, String(index)), searches))
  return { binds: shown.flatMap(({ bind }) => (bind ? [bind] : [])), paths: shown.map(({ path }) => path) }
}

interface Shown {
  readonly path: string
  readonly bind?: ProgramBind
}

function show(program: string, place: string, searches: (directory: string) => boolean): Shown {
  const closed = ancestors(program).find((directory) => !searches(directory))
  if (closed === undefined) return { path: program }
  const [next = '', ...rest] = relative(closed, program).split(sep)
  // A directory is mounted, not the program: it may need its neighbours.
  return rest.length === 0
    ? { path: join(place, next), bind: [closed, place] }
    : { path: join(place, ...rest), bind: [join(closed, next), place] }
}

/** From the innermost to the root. */
function ancestors(path: string): string[] {
  const above = dirname(path)
  return above === path ? [] : [above, ...ancestors(above)]
}
