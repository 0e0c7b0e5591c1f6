import { statSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { S_IXOTH } from '../../abi/stat.ts'

/**
 * Here a process in a container's user namespace sees programs that otherwise only we can reach, each in its own
 * directory.
 */
const SHOWN_AT = '/run/intercede/program'

/** A directory `what`, and the existing directory `place` at which it must be mounted as well. */
export type ProgramBind = readonly [what: string, place: string]

/** How a user who can search only directories that are open to everybody can start the programs. */
export interface Exposed {
  /** The needed mounts; empty if all programs can be reached at their own paths. */
  readonly binds: readonly ProgramBind[]
  /** The paths of the programs once `binds` are mounted, in the order of the programs. */
  readonly paths: readonly string[]
}

const everybodySearches = (directory: string): boolean => (statSync(directory).mode & S_IXOTH) !== 0

/**
 * Returns the mounts that make programs reachable for any user, in a separate mount namespace. Our checkout may be
 * below /root and Node in a home directory, and Node can load a program by its path only.
 *
 * @param searches whether any user may search a directory
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
  // The whole directory is mounted, because the program may need the files beside it.
  return rest.length === 0
    ? { path: join(place, next), bind: [closed, place] }
    : { path: join(place, ...rest), bind: [join(closed, next), place] }
}

/** Returns the directories above `path`, the innermost first. */
function ancestors(path: string): string[] {
  const above = dirname(path)
  return above === path ? [] : [above, ...ancestors(above)]
}
