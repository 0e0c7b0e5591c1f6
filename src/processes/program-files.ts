import { existsSync, readFileSync } from 'node:fs'

/** The program that this process executes, and all other programs of ours: Node. */
export const NODE: string = process.execPath
/** The directories of the programs of the host that we start. */
const DIRECTORIES = ['/usr/sbin', '/usr/bin', '/sbin', '/bin']
/** The directories in the form of PATH. */
export const SEARCH_PATH: string = DIRECTORIES.join(':')
const EXECUTABLE = /^\S+ r.x. \S+ \S+ \S+ +(\/.*)$/gm

/** Returns the files that this process has mapped executable, such as its program and the dynamic loader. */
export const executed = (): readonly string[] => [
  ...new Set([...readFileSync('/proc/self/maps', 'utf8').matchAll(EXECUTABLE)].map(([, path]) => path!)),
]

/**
 * Returns the files that a mount namespace needs so that programs can be started in it: this program, the libraries
 * that it uses (others lie next to them), and the named programs.
 */
export const programFiles = (names: readonly string[]): readonly string[] => [
  NODE,
  import.meta.dirname,
  ...executed(),
  ...names.flatMap((name) => DIRECTORIES.map((directory) => `${directory}/${name}`).filter((path) => existsSync(path))),
]
