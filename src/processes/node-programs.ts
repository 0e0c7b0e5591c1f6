import { build } from './build-id.ts'
import { NO_INSPECTOR } from './no-inspector.ts'
import { NODE, SEARCH_PATH } from './program-files.ts'

/** Our programs, and how much memory the new objects of each get, in MiB: a larger space has longer pauses. */
const PROGRAMS = {
  engine: { main: 'engine/main', semiSpace: 2 },
  mounter: { main: 'mounter/main', semiSpace: 1 },
  walker: { main: 'walker/main', semiSpace: 1 },
} as const

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
 * there. No stacks of errors: they would load files too.
 */
export function nodeProgram(name: keyof typeof PROGRAMS): NodeProgram {
  const { main, semiSpace } = PROGRAMS[name]
  return {
    node: NODE,
    flags: [NO_INSPECTOR, `--max-semi-space-size=${semiSpace}`, '--stack-trace-limit=0'],
    main: moduleUrl(main).pathname,
    build,
    how: { env: { UV_USE_IO_URING: '0', TZ: 'UTC', PATH: SEARCH_PATH }, cwd: '/' },
  }
}

/**
 * The command by which this process was started, whatever program its files are now.
 *
 * @param more words to put after it
 */
export const ownCommand = (...more: readonly string[]): readonly [node: string, args: readonly string[]] => [
  NODE,
  [...process.execArgv, ...process.argv.slice(1), ...more],
]
