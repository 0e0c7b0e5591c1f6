import type { Target } from '../filter/target.ts'
import type { Instructions } from './flags.ts'

/** How the doctor finds a runtime. */
export interface Installed {
  /** As the doctor's lines call it. */
  readonly label: string
  /** The file that is started, as PATH has it. */
  readonly program: string
  /** The packages of Debian that bring it. */
  readonly packages: readonly string[]
}

/** All that we know of one runtime. known/ has a file for each: docs/add-a-runtime.md says how one is added. */
export interface Runtime {
  /** As `intercede flags NAME`, `--runtime NAME` and its page in docs/runtimes/ call it. */
  readonly name: string
  /** What a profile for it must look like. Left out where the profile is for the runtime that it starts, or for LXC. */
  readonly target?: Target
  /** What `intercede flags NAME` says. Left out for a runtime that has a bundle, and no options for what is in that. */
  readonly instructions?: Instructions
  /** Left out for a runtime that the doctor does not look for. */
  readonly installed?: Installed
  /** A folder in which there is a `--root` of an OCI runtime for each of its namespaces. */
  readonly rootsIn?: string
}

/** A runtime that starts containers itself, from a bundle, and hands their listeners over. */
export interface OciRuntime extends Runtime {
  readonly target: Target
  readonly installed: Installed
  /** What the doctor advises where the program does not know the flag WAIT_KILLABLE_RECV. */
  readonly remedyForSignals: string
  /** What the file in memory is called that it copies itself into and runs from: so /proc/PID/exe shows it. */
  readonly copy: string
  /** The options before the command without which another call of it would not find a container, or not its groups. */
  readonly sharedOptions: {
    /** With a value. */
    readonly values: readonly string[]
    /** Without one. */
    readonly words: readonly string[]
  }
  /** What it writes down of a container before it hands over the listener. */
  readonly record: {
    /** The folder of all containers, in XDG_RUNTIME_DIR or /run, if it is not told another `--root`. */
    readonly root: string
    /** The file in the folder of a container, which is JSON. */
    readonly file: string
    /** The member of that file that is the number of the init process. */
    readonly init: string
  }
  /** Does it send the container's terminal to `--console-socket` from `run` in the foreground too? */
  readonly sendsTerminal: boolean
  /** The errors of its log that say what podman's exit codes 126 and 127 stand for. */
  readonly failures: readonly (readonly [says: RegExp, exitCode: number])[]
}
