import { makeRaw } from '../../kernel/pty.ts'

/** Who restores the user's terminal if we are killed. */
export interface TerminalKeeper {
  /** The terminal is about to have the settings `raw`, and had `before`; both in the words of stty(1). */
  isRaw(before: string, raw: string): void
  isFormer(): void
}

/** What gives the user's terminal its former settings, while it is raw: a process has one terminal. */
let raw: Disposable | undefined
let keeper: TerminalKeeper | undefined

/** Tells another process, from now on, what becomes of the user's terminal. */
export function keepTerminal(by: TerminalKeeper): void {
  keeper = by
}

function goRaw(): void {
  raw = makeRaw(process.stdin.fd, (before, now) => keeper?.isRaw(before, now))
}

function leaveRaw(): void {
  raw?.[Symbol.dispose]()
  raw = undefined
  keeper?.isFormer()
}

/** Makes the user's terminal raw until the result is disposed. @throws {SyscallError} ENOTTY */
export function rawTerminal(): Disposable {
  goRaw()
  return { [Symbol.dispose]: leaveRaw }
}

/** Does something while the user's terminal has its former settings, if it is raw now. */
export function withFormerSettings(act: () => void): void {
  const wasRaw = raw !== undefined
  leaveRaw()
  try {
    act()
  } finally {
    if (wasRaw) goRaw()
  }
}
