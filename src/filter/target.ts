/** Who reads a profile, and what it takes. Each runtime states it of itself, in its file of runtimes/known/. */
export interface Target {
  /** As `--runtime` of `intercede profile` and what is said about a profile call it. */
  readonly name: string
  /** The filter flags of a profile for it; none for a reader that refuses a profile with flags. */
  readonly flags: readonly string[]
  /** Does it resolve capabilities and `archMap` of a base profile itself? */
  readonly resolvesGuards: boolean
  /** The calls that it makes in the filtered task before an agent has the listener: trapped, they would hang it. */
  readonly callsBeforeHandOver: readonly string[]
}

export const SPEC_ALLOW = 'SECCOMP_FILTER_FLAG_SPEC_ALLOW'
/** With this flag (Linux 5.19) a signal cannot cancel a call that is being served. */
export const WAIT_KILLABLE_RECV = 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'

/** What a filter must cover on a machine (Node's `process.arch`): a mode that is not covered is killed by libseccomp. */
export const machines: Record<
  string,
  {
    readonly goArch: string
    readonly architectures: readonly [string, ...string[]]
    /** Sections of a policy of LXC that are in force there. */
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
