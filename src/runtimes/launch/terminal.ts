import { createWriteStream, fstatSync, read } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import type { WriteStream } from 'node:tty'
import { promisify } from 'node:util'
import { now } from '../../kernel/clock.ts'
import { orElse } from '../../kernel/error.ts'
import { dup, type Fd, type Handle } from '../../kernel/fd.ts'
import { makeRaw, openPty, setWindowSize } from '../../kernel/pty.ts'
import { accept, listenUnix, receive } from '../../kernel/socket.ts'
import type { IdRange } from './ids.ts'
import type { ConsoleSize } from './oci-config.ts'
import { inBackground, output, pipes, type StartWords, type Stdio } from './pipes.ts'
import { pollUntil } from './runtime.ts'
import { layout } from './tree.ts'

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
function rawTerminal(): Disposable {
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
    // The terminal may have gone meanwhile, of which SIGHUP tells.
    if (wasRaw) orElse(undefined, goRaw)
  }
}

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
async function relayRaw(master: Handle, watch: KeyWatch, words: StartWords): Promise<void> {
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
function followSize(master: Handle, onResize: () => void = () => {}): Disposable {
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

/** Receives the master of the container's terminal from the runtime; undefined if the runtime failed before. */
async function receiveMaster(listening: Handle, ended: () => boolean): Promise<Fd | undefined> {
  using connection = await pollUntil(() => accept(listening), ended)
  if (!connection) return undefined
  const message = await pollUntil(() => receive(connection, new Uint8Array(4096)), ended)
  const [master, ...more] = message?.fds ?? []
  for (const fd of more) fd[Symbol.dispose]()
  return master
}

/**
 * Makes stdio with the container's own terminal, which the runtime sends us: crun's own copying ends with the
 * container and loses what a slow reader has not read yet. The runtime itself gets pipes for its messages.
 */
export function consoleTerminal(ids: IdRange, watch: KeyWatch, words: StartWords): Stdio {
  const own = pipes(ids, words)
  const listening = listenUnix(layout.console)
  return {
    ends: own.ends,
    args: ['--console-socket', layout.console],
    async relay(ended) {
      const messages = own.relay(ended, { stdin: false })
      using master = await receiveMaster(listening, ended)
      if (master) {
        using _following = followSize(master)
        await relayRaw(master, watch, words)
      }
      return await messages
    },
    [Symbol.dispose]() {
      listening[Symbol.dispose]()
      own[Symbol.dispose]()
    },
  }
}
