import { dup } from '../../kernel/fd.ts'
import { openPty } from '../../kernel/pty.ts'
import type { KeyWatch } from './keys.ts'
import { followSize, relayRaw } from './raw-relay.ts'
import type { StartWords } from './start-words.ts'
import type { Stdio } from './stdio.ts'

/**
 * Makes stdio with a terminal of ours for the runtime, which makes the container's own and copies between the two. It
 * is for runc, which sends its terminal away only if it does not stay. The container never gets the user's terminal.
 *
 * @param onResize called on a new size, since the runtime is in another session and gets no SIGWINCH by itself
 */
export function terminal(onResize: () => void, watch: KeyWatch, words: StartWords): Stdio {
  const { master, slave } = openPty()
  const ends = [slave, dup(slave), dup(slave)] as const
  const following = followSize(master, onResize)
  return {
    ends,
    args: [],
    async relay() {
      for (const end of ends) end[Symbol.dispose]()
      await relayRaw(master, watch, words)
      return undefined
    },
    [Symbol.dispose]() {
      following[Symbol.dispose]()
      for (const end of [...ends, master]) end[Symbol.dispose]()
    },
  }
}
