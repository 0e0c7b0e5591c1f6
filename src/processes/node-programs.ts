import { fileURLToPath } from 'node:url'
import { build } from './build-id.ts'
import { NODE, SEARCH_PATH } from './program-files.ts'
import { flagsFor, type Program } from './program-flags.ts'

/** Threads of libuv's pool: one waits for messages for as long as the program lives, the other starts processes. */
const POOL = '2'

/** How to start a program of ours. */
export interface NodeProgram {
  readonly node: string
  /** Of Node: to stand before `main`. */
  readonly flags: readonly string[]
  readonly main: string
  /** To be given to the program, which serves no other build: the files may be replaced while it starts. */
  readonly build: string
  /** For spawn(). */
  readonly how: { readonly env: Readonly<Record<string, string>>; readonly cwd: string }
}

/**
 * The file of a program or thread, in the build or in the sources as this one is.
 *
 * @param name below them, without an ending
 */
export const moduleUrl = (name: string): URL =>
  new URL(`../${name}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)

/**
 * Says how to start a program of ours, with only the environment that it needs. No io_uring: the kernel's threads would
 * make file calls with the host's root for a thread that has entered a container. UTC: no time zone file is loaded
 * there.
 */
export function nodeProgram(name: Program): NodeProgram {
  return {
    node: NODE,
    flags: flagsFor(name),
    main: fileURLToPath(moduleUrl(`${name}/main`)),
    build,
    how: { env: { UV_USE_IO_URING: '0', UV_THREADPOOL_SIZE: POOL, TZ: 'UTC', PATH: SEARCH_PATH }, cwd: '/' },
  }
}

/** The command that starts the program of this process with other words, whatever program its files are now. */
export const ownProgram = (...words: readonly string[]): readonly [node: string, args: readonly string[]] => [
  NODE,
  [...process.execArgv, process.argv[1]!, ...words],
]

/** The command by which this process was started. @param more words to put after it */
export const ownCommand = (...more: readonly string[]): ReturnType<typeof ownProgram> =>
  ownProgram(...process.argv.slice(2), ...more)
