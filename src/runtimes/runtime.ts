import { accessSync, constants } from 'node:fs'
import type { Target } from '../filter/target.ts'
import { orElse } from '../kernel/error.ts'
import type { Instructions } from './flags.ts'

/** How the doctor finds an installed runtime. */
export interface Installed {
  /** The name in the doctor's report. */
  readonly label: string
  /** The name of the executable, which is searched in PATH. */
  readonly program: string
  /** The Debian packages that contain it. */
  readonly packages: readonly string[]
}

/** All that we know of one runtime. Each has a file in known/; docs/internals/add-a-runtime.md says how to add one. */
export interface Runtime {
  /** The name in `intercede flags NAME`, in `--runtime NAME` and of its page in docs/runtimes/. */
  readonly name: string
  /** What a profile for it must look like. Absent if the profile is for the runtime below it, or an LXC policy. */
  readonly target?: Target
  /** What `intercede flags NAME` prints. Absent for a runtime that takes everything from a bundle. */
  readonly instructions?: Instructions
  /** Absent for a runtime that the doctor does not look for. */
  readonly installed?: Installed
  /** A directory with one `--root` of an OCI runtime per namespace. */
  readonly rootsIn?: string
}

/** A runtime that starts containers itself, from a bundle, and hands their listeners over. */
export interface OciRuntime extends Runtime {
  readonly target: Target
  readonly installed: Installed
  /** A fault of the runtime itself that reaches the host, and the first version without it. */
  readonly fault?: { readonly mended: string; readonly name: string; readonly follows: string }
  /** What the doctor advises if profiles do not have the flag WAIT_KILLABLE_RECV, or the program does not know it. */
  readonly remedyForSignals: string
  /** The least memory limit, in MiB, with which it starts a container: with less the kernel kills it without a word. */
  readonly leastMemoryMib: number
  /** The name of the memfd into which the runtime copies itself and from which it runs, as /proc/PID/exe shows it. */
  readonly copy: string
  /** Options before the command without which another invocation would not find the container, or not its cgroups. */
  readonly sharedOptions: {
    /** Options with a value. */
    readonly values: readonly string[]
    /** Options without a value. */
    readonly words: readonly string[]
  }
  /** The record of a container that it writes before it hands over the listener. */
  readonly record: {
    /** The directory of all containers in XDG_RUNTIME_DIR or /run, unless `--root` names another. */
    readonly root: string
    /** The JSON file in the directory of a container. */
    readonly file: string
    /** The member of the JSON file with the pid of the init. */
    readonly init: string
  }
  /** True if `run` in the foreground sends the container's terminal to `--console-socket` too. */
  readonly sendsTerminal: boolean
  /** Errors in its log that correspond to podman's exit codes 126 and 127. */
  readonly failures: readonly (readonly [says: RegExp, exitCode: number])[]
}

/** Returns the version in what a program prints for `--version`. */
export const versionIn = (text: string): string | undefined => /\d+\.\d+[^\s,]*/.exec(text)?.[0]

/** Tells whether a version has the fault. It can only be known by the version: no program names its own. */
export const hasFault = ({ fault }: OciRuntime, version: string): boolean =>
  fault !== undefined && version.localeCompare(fault.mended, 'en', { numeric: true }) < 0

/** What the doctor and the log advise against the fault of a runtime. */
export const faultRemedy = ({ installed: { label }, fault }: OciRuntime): string =>
  `install ${label} ${fault?.mended} or later`

/** Seconds from the request to end until the container is killed, as of podman. */
export const STOP_SECONDS = 10

const SEARCH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const isExecutable = (path: string): boolean =>
  orElse(false, () => {
    accessSync(path, constants.X_OK)
    return true
  })

/**
 * Returns the path of a program. The sbin directories are searched too, since administrators' PATH often lacks them.
 */
export const which = (name: string): string | undefined =>
  `${process.env.PATH ?? ''}:${SEARCH}`
    .split(':')
    .map((directory) => `${directory}/${name}`)
    .find((path) => path.startsWith('/') && isExecutable(path))
