import type { Cap } from '../abi/capability.ts'
import { type ErrnoName, errno } from '../abi/errno.ts'
import type { Caller } from '../calls/caller.ts'
import type { ReasonCode } from '../calls/reason.ts'
import { refuse, type Verdict } from '../calls/verdict.ts'

/** The argument of one command. */
export interface Argument {
  /** Where it is in the caller's memory; its members keep their places there. */
  readonly at: bigint
  readonly size: number
  /** The copy, with zeros beyond the size. */
  readonly view: DataView
  /** Of a program to be loaded: what could be read of it. */
  readonly text: Text | undefined
}

/** The two things of a program that lie elsewhere in memory; undefined for what could not be read. */
export interface Text {
  readonly instructions: Uint8Array | undefined
  readonly licence: Uint8Array | undefined
}

/** One command of bpf(2). */
export interface Command {
  /** What the kernel asks for; one of these sets. For what it leaves to whoever has the descriptor, what it asks to load. */
  readonly needs: readonly (readonly Cap[])[]
  /** Is it about device programs of cgroups? The verdict if not. */
  foreign(view: DataView): Verdict | undefined
  decide(argument: Argument, caller: Caller): Verdict
}

/** As to load a program: before CAP_BPF there was only CAP_SYS_ADMIN, which still counts for both. */
export const MANAGE: readonly (readonly Cap[])[] = [['SYS_ADMIN'], ['BPF', 'NET_ADMIN']]
export const ours = (): undefined => undefined

/** Not left to the kernel, which would judge by a descriptor that only stands for a program. */
export const deny = (name: ErrnoName, code: ReasonCode, a?: number, b?: number): Verdict =>
  refuse(code, errno(name), a, b)
