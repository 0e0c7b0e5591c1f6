import type { Cap } from '../abi/credentials.ts'
import { type ErrnoName, errno } from '../abi/errno.ts'
import type { Caller } from '../calls/caller.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import { refuse, type Verdict } from '../calls/verdict.ts'

/** The argument of one command of bpf(2). */
export interface Argument {
  /** Its address in the caller's memory, from which the addresses of its members follow. */
  readonly at: bigint
  readonly size: number
  /** A copy of it, with zeros beyond the size. */
  readonly view: DataView
  /** The instructions and licence of a program to be loaded; undefined for other commands. */
  readonly text: Text | undefined
}

/** The two parts of a program that the argument points to; undefined for a part that could not be read. */
export interface Text {
  readonly instructions: Uint8Array | undefined
  readonly licence: Uint8Array | undefined
}

/** One command of bpf(2). */
export interface Command {
  /**
   * Alternative sets of capabilities that the kernel requires. A command for which the kernel requires none, only a
   * descriptor, requires the capabilities of loading.
   */
  readonly needs: readonly (readonly Cap[])[]
  /** Returns undefined for a command about device programs of cgroups, otherwise the verdict. */
  foreign(view: DataView): Verdict | undefined
  decide(argument: Argument, caller: Caller): Verdict
}

/**
 * The capabilities for loading a program: before CAP_BPF the kernel required CAP_SYS_ADMIN, which still counts as
 * both.
 */
export const MANAGE: readonly (readonly Cap[])[] = [['SYS_ADMIN'], ['BPF', 'NET_ADMIN']]
export const ours = (): undefined => undefined

/** Refuses a call instead of leaving it to the kernel, which would take the descriptor for the pipe that it is. */
export const deny = (name: ErrnoName, code: ReasonCode, a?: number, b?: number): Verdict =>
  refuse(code, errno(name), a, b)
