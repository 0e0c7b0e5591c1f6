// What a case of the comparison is: data, which a script makes of.

import type { PodmanReasonName, ReasonName } from './reasons.ts'

/** One case: a set-up, calls, and what is looked at after them. */
export interface Case {
  readonly name: string
  /** Shell, in an empty directory and a mount namespace of the case's own. It takes no privilege of the host. */
  readonly before?: string
  /** Steps of the fixture `call-steps`, as a shell reads them. */
  readonly calls: string
  /** Shell that prints what came of it, with the functions of script.ts. */
  readonly shows?: string
  /** Why a container with all keys gets something else than root of the host; without it, it gets the same. */
  readonly why?: ReasonName
  /** Why a container of podman gets something else than one of `run`; without it, it gets the same. */
  readonly podman?: PodmanReasonName
}

/** The cases of one call, or of calls that belong together. */
export interface Family {
  readonly name: string
  readonly cases: readonly Case[]
}

/** The same set-up, calls, or look afterwards, for several cases that say nothing else. */
export const each = <Common extends Partial<Case>>(
  common: Common,
  cases: readonly (Omit<Case, keyof Common> & Partial<Case>)[],
): readonly Case[] => cases.map((one) => ({ ...common, ...one }) as unknown as Case)

/** Steps one after the other. */
export const steps = (...calls: readonly string[]): string => calls.join(' , ')

/** Becomes a user without any capability. */
export const AS_USER = '@setresgid 1000 1000 1000 , @setresuid 1000 1000 1000'
export const BAD_FD = 99
