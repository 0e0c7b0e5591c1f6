/** The reader of a profile and what it accepts. Each runtime states it in its own file of runtimes/known/. */
export interface Target {
  /** The name in `--runtime` of `intercede profile` and in messages about a profile. */
  readonly name: string
  /** The program that makes the filter of the profile. */
  readonly program: string
  /** The filter flags of a profile for this reader; empty for a reader of which some versions refuse any. */
  readonly flags: readonly string[]
  /** True if it resolves the capabilities and `archMap` of a base profile itself. */
  readonly resolvesGuards: boolean
  /** The calls that it makes in the filtered task before an agent has the listener; trapping one would hang it. */
  readonly callsBeforeHandOver: readonly string[]
}

export const SPEC_ALLOW = 'SECCOMP_FILTER_FLAG_SPEC_ALLOW'
/** With this flag (Linux 5.19) no signal cancels a call that is being served. */
export const WAIT_KILLABLE_RECV = 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'

/**
 * The kernel refuses this flag beside a listener. It means nothing to a container that starts, which has one thread.
 *
 * @see linux/kernel/seccomp.c seccomp_set_mode_filter()
 */
export const TSYNC = 'SECCOMP_FILTER_FLAG_TSYNC'

/**
 * What a filter must cover on a machine (Node's `process.arch`): libseccomp kills calls of an architecture that it
 * lacks.
 */
export const machines: Record<
  string,
  {
    readonly goArch: string
    readonly architectures: readonly [string, ...string[]]
    /** The sections of an LXC policy that are in force on this machine. */
    readonly sections: ReadonlySet<string>
  }
> = {
  x64: {
    goArch: 'amd64',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    sections: new Set(['all', 'x86', 'x32', 'x86_64']),
  },
  arm64: {
    goArch: 'arm64',
    architectures: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
    sections: new Set(['all', 'arm', 'arm64']),
  },
}
