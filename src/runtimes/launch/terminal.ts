import { dup } from '../../kernel/fd.ts'
import { openPty } from '../../kernel/pty.ts'
import { followSize, relayRaw } from './raw-relay.ts'
import type { Stdio } from './stdio.ts'

/**
 * A terminal of ours for the runtime, which makes the container's own and copies between the two: for runc, which gives
 * its terminal away only when it does not stay. The user's terminal never reaches the container's side.
 *
 * @param onResize the runtime is in another session and gets no SIGWINCH by itself
 */
export function terminal(onResize: () => void): Stdio {
  const { master, slave } = openPty()
  const ends = [slave, dup(slave), dup(slave)] as const
  const following = followSize(master, onResize)
  return {
    ends,
    args: [],
    async relay() {
      for (const end of ends) end[Symbol.dispose]()
      await relayRaw(master)
    },
    [Symbol.dispose]() {
      following[Symbol.dispose]()
      for (const end of [...ends, master]) end[Symbol.dispose]()
    },
  }
}
