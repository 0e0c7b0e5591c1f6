/** Who reads the profile. */
export type Target = 'crun' | 'runc' | 'podman' | 'docker'
export const targets = ['crun', 'runc', 'podman', 'docker'] as const satisfies readonly Target[]

const SPEC_ALLOW = 'SECCOMP_FILTER_FLAG_SPEC_ALLOW'
export const WAIT_KILLABLE_RECV = 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'

/**
 * The flags that a target takes. With WAIT_KILLABLE_RECV (Linux 5.19) a signal cannot cancel a call that is being served.
 * Checked with crun 1.21: it passes the flag on; without any flag it sets SPEC_ALLOW itself, with one only those named,
 * so that is named too. runc 1.1.15 refuses a profile with any flag ("seccomp flags are not yet supported by runc").
 * Docker passes all on to its runtime, which is runc unless it is told otherwise.
 * podman 5.4.2 passes flags, listenerPath and listenerMetadata on to its runtime, by default crun.
 */
const flags: Record<Target, readonly string[]> = {
  crun: [SPEC_ALLOW, WAIT_KILLABLE_RECV],
  podman: [SPEC_ALLOW, WAIT_KILLABLE_RECV],
  runc: [],
  docker: [],
}

export const flagsFor = (target: Target): readonly string[] => flags[target]

/** Does the target take any flag at all? */
export const takesFlags = (target: Target): boolean => flags[target].length > 0

/** Does the target resolve capabilities and `archMap` of a base profile itself? */
export const resolvesGuards = (target: Target): boolean => target === 'podman' || target === 'docker'

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
