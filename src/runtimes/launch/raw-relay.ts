import { createWriteStream, read } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import type { WriteStream } from 'node:tty'
import { promisify } from 'node:util'
import type { Handle } from '../../kernel/handle.ts'
import { makeRaw, setWindowSize } from '../../kernel/pty.ts'
import type { ConsoleSize } from './oci-config.ts'
import { output } from './stdio.ts'

/** The container gets a terminal only if both ends of ours are one: else a pipeline would get its control characters. */
export const hasTerminal = (): boolean => Boolean(process.stdin.isTTY && process.stdout.isTTY)

const CHUNK = 65_536
const readChunk = promisify(read)

/**
 * What comes out of a terminal, until its last slave is closed (EIO). Read by libuv's pool: its streams take a short
 * read together with the hang-up for the end, and drop what is still to come.
 */
async function* untilHangup(master: Handle): AsyncGenerator<Buffer> {
  try {
    for (;;) {
      const { bytesRead, buffer } = await readChunk(master.raw, Buffer.allocUnsafe(CHUNK), 0, CHUNK, null)
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error
  }
}

const CTRL_C = 3
const IN_A_ROW_MS = 2000
const PATIENCE = 3

/**
 * A command that is the container's first process ignores Ctrl-C unless it has a handler. Who presses it again and again
 * wants an end: from the third on, each is a SIGTERM to ourselves, of which the second kills.
 */
function insistence(): (keys: Buffer) => void {
  let pressed: number[] = []
  return (keys) => {
    if (!keys.includes(CTRL_C)) return
    pressed = [...pressed.filter((time) => Date.now() - time < IN_A_ROW_MS), Date.now()]
    if (pressed.length >= PATIENCE) process.kill(process.pid, 'SIGTERM')
  }
}

/**
 * Copies between the user's terminal and `master` until the other side hangs up. Every key goes through as it is, Ctrl-C
 * too: the container's terminal makes the signal of it.
 */
export async function relayRaw(master: Handle): Promise<void> {
  using _raw = makeRaw(process.stdin.fd)
  const input = createWriteStream('', { fd: master.raw, autoClose: false })
  input.on('error', () => {}) // EIO: it hung up, which the other direction notices
  const insist = insistence()
  process.stdin.on('data', insist)
  process.stdin.pipe(input)
  await pipeline(untilHangup(master), output(1)).catch(() => {}) // the user's terminal went away
  process.stdin.unpipe(input)
  process.stdin.off('data', insist)
}

/** The size of the user's terminal. */
export function consoleSize(): ConsoleSize {
  const [width, height] = (process.stdout as WriteStream).getWindowSize()
  return { height, width }
}

/** Gives `master` the size of the user's terminal, now and whenever that changes. */
export function followSize(master: Handle, onResize: () => void = () => {}): Disposable {
  const measure = (): void => setWindowSize(master, ...(process.stdout as WriteStream).getWindowSize())
  const follow = (): void => {
    measure()
    onResize()
  }
  measure()
  process.stdout.on('resize', follow)
  return {
    [Symbol.dispose]() {
      process.stdout.off('resize', follow)
    },
  }
}
