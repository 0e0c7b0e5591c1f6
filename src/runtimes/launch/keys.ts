import { now } from '../../kernel/clock.ts'

const CTRL_C = 3
const CTRL_Z = 26
const IN_A_ROW_MS = 2000
const PATIENCE = 3

/** Looks at the keys that go to the container's terminal. */
export type KeyWatch = (keys: Buffer) => void

/** Returns a watch that calls `act` when Ctrl-Z is among the keys. */
export const onCtrlZ =
  (act: () => void): KeyWatch =>
  (keys) => {
    if (keys.includes(CTRL_Z)) act()
  }

/**
 * Returns a watch that counts Ctrl-C, for a container without an init. Its first process ignores SIGINT unless it has
 * a handler, so from the third Ctrl-C in IN_A_ROW_MS on, each sends SIGTERM to ourselves, of which the second kills
 * the container.
 */
export function insistence(): KeyWatch {
  let pressed: number[] = []
  return (keys) => {
    if (!keys.includes(CTRL_C)) return
    pressed = [...pressed.filter((time) => now() - time < IN_A_ROW_MS), now()]
    if (pressed.length >= PATIENCE) process.kill(process.pid, 'SIGTERM')
  }
}
