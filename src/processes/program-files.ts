import { existsSync, readFileSync } from 'node:fs'

/** Where the programs are that we start. */
const DIRECTORIES = ['/usr/sbin', '/usr/bin', '/sbin', '/bin']
/** For them, as PATH has it. */
export const SEARCH_PATH: string = DIRECTORIES.join(':')
const EXECUTABLE = /^\S+ r.x. \S+ \S+ \S+ +(\/.*)$/gm

/** Files that are executed by this process, such as the loader of its program. */
export const executed = (): readonly string[] => [
  ...new Set([...readFileSync('/proc/self/maps', 'utf8').matchAll(EXECUTABLE)].map(([, path]) => path!)),
]

/**
 * Files that the mount namespace of a process of ours must have, so that programs can be started in it: this program, the
 * libraries that it has, next to which others lie, and the programs named.
 */
export const programFiles = (names: readonly string[]): readonly string[] => [
  process.execPath,
  import.meta.dirname,
  ...executed(),
  ...names.flatMap((name) => DIRECTORIES.map((directory) => `${directory}/${name}`).filter((path) => existsSync(path))),
]
