import { once } from 'node:events'
import { ReadStream, type WriteStream } from 'node:tty'
import { dup, type Fd } from '../../kernel/fd.ts'
import { openPty, setWindowSize } from '../../kernel/pty.ts'
import { copy, output, type Stdio } from './stdio.ts'

/** The container gets a terminal only if both ends of ours are one: else a pipeline would get its control characters. */
export const hasTerminal = (): boolean => Boolean(process.stdin.isTTY && process.stdout.isTTY)

/**
 * A terminal of ours for the runtime, which makes the container's own and copies between the two. The user's terminal
 * never reaches the container's side.
 *
 * @param onResize called after the size changed: the runtime is in another session and gets no SIGWINCH by itself
 */
export function terminal(onResize: () => void): Stdio {
  const { master, slave } = openPty()
  const ends = [slave, dup(slave), dup(slave)] as const
  const size = dup(master)
  const measure = (): void => setWindowSize(size, ...(process.stdout as WriteStream).getWindowSize())
  const follow = (): void => {
    measure()
    onResize()
  }
  measure()
  return {
    ends,
    async relay() {
      for (const end of ends) end[Symbol.dispose]()
      process.stdout.on('resize', follow)
      await relayRaw(master)
    },
    [Symbol.dispose]() {
      process.stdout.off('resize', follow)
      for (const end of [...ends, master, size]) end[Symbol.dispose]()
    },
  }
}

/** Every key goes through as it is, Ctrl-C too: the container's terminal makes the signal of it. */
async function relayRaw(master: Fd): Promise<void> {
  const stream = new ReadStream(master.release())
  const closed = once(stream, 'close')
  stream.on('error', () => {}) // EIO: the last slave was closed, the end of a terminal
  process.stdin.setRawMode(true)
  try {
    process.stdin.pipe(stream)
    await copy(stream, output(1))
    await closed
  } finally {
    process.stdin.setRawMode(false)
  }
}
