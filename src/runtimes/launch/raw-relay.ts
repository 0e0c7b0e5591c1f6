import { createWriteStream, fstatSync, read } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import type { WriteStream } from 'node:tty'
import { promisify } from 'node:util'
import type { Handle } from '../../kernel/handle.ts'
import { setWindowSize } from '../../kernel/pty.ts'
import type { KeyWatch } from './keys.ts'
import type { ConsoleSize } from './oci-config.ts'
import { rawTerminal } from './raw-terminal.ts'
import type { StartWords } from './start-words.ts'
import { inBackground, output } from './stdio.ts'

/** What is no device is no terminal: to ask Node for a stream takes a millisecond or two. */
const isDevice = (fd: number): boolean => fstatSync(fd).isCharacterDevice()

/**
 * Tells whether the container gets a terminal: only if both our stdin and stdout are terminals, since a pipeline
 * would otherwise get the terminal's control characters; and not in the background, where the kernel stops what
 * changes or reads the terminal.
 */
export const hasTerminal = (): boolean =>
  isDevice(0) && isDevice(1) && Boolean(process.stdin.isTTY && process.stdout.isTTY) && !inBackground()

const CHUNK = 65_536
const readChunk = promisify(read)

/**
 * Reads from a terminal until its last slave is closed (EIO). It uses libuv's thread pool, since libuv's streams take
 * a short read together with the hang-up for the end, and drop the remaining data.
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

/**
 * Copies between the user's terminal and `master` until the container hangs up. Every key is passed on unchanged,
 * Ctrl-C too, which the container's terminal turns into a signal.
 */
export async function relayRaw(master: Handle, watch: KeyWatch, words: StartWords): Promise<void> {
  using _raw = rawTerminal()
  const input = createWriteStream('', { fd: master.raw, autoClose: false })
  // EIO: the container hung up, which the other direction notices.
  input.on('error', () => {})
  // The user's terminal went away, which the signal SIGHUP says too.
  process.stdin.on('error', () => {})
  process.stdin.on('data', watch)
  process.stdin.pipe(input)
  // An error means that the user's terminal went away.
  await pipeline(words.without(untilHangup(master)), output(1)).catch(() => {})
  process.stdin.unpipe(input)
  process.stdin.off('data', watch)
}

/** Returns the size of the user's terminal. */
export function consoleSize(): ConsoleSize {
  const [width, height] = (process.stdout as WriteStream).getWindowSize()
  return { height, width }
}

/** Gives `master` the size of the user's terminal, now and after every change. */
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
