import { makeRaw } from '../../kernel/pty.ts'

/** What gives the user's terminal its former settings, while it is raw: a process has one terminal. */
let raw: Disposable | undefined

function leaveRaw(): void {
  raw?.[Symbol.dispose]()
  raw = undefined
}

/** Makes the user's terminal raw until the result is disposed. @throws {SyscallError} ENOTTY */
export function rawTerminal(): Disposable {
  raw = makeRaw(process.stdin.fd)
  return { [Symbol.dispose]: leaveRaw }
}

/** Does something while the user's terminal has its former settings, if it is raw now. */
export function withFormerSettings(act: () => void): void {
  const wasRaw = raw !== undefined
  leaveRaw()
  try {
    act()
  } finally {
    if (wasRaw) raw = makeRaw(process.stdin.fd)
  }
}
