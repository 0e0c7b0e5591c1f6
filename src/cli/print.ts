import { writeSync } from 'node:fs'
import { oneLine } from '../shared/texts.ts'
import { STATUS } from './usage.ts'

/** Says one sentence on standard error. If that cannot be written to, nobody can be told. */
export const say = (text: string): void => writeAtOnce(2, `intercede: ${oneLine(text)}\n`, () => {})

/** What a shell shows for a program that SIGPIPE ended, which Node ignores. */
export const READER_GONE = 128 + 13

/**
 * Prints on standard output. If that fails, the exit status says so and standard error why. If the reader has gone, as
 * `| head` does, the program ends at once without a word. `run` never comes here, since it shares its standard output
 * with the container.
 */
export const print = (text: string): void => write(process.stdout, text, lost)

/** Does the same without Node's stream, which takes a millisecond or two to load, for who prints nothing else. */
export const printAtOnce = (text: string): void => writeAtOnce(1, text, lost)

type Fail = (error: NodeJS.ErrnoException) => void

function writeAtOnce(fd: 1 | 2, text: string, fail: Fail): void {
  let rest = Buffer.from(text)
  try {
    while (rest.length > 0) rest = rest.subarray(writeSync(fd, rest))
  } catch (error) {
    // Somebody who shares it has made it non-blocking: the stream waits until there is room.
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') fail(error as NodeJS.ErrnoException)
    else write(fd === 1 ? process.stdout : process.stderr, rest, fail)
  }
}

let streams = false

/**
 * Ends the process, for who has printed all at once: Node would first collect what nobody needs any more, which takes
 * a tenth of the time of a long list. Does nothing where a stream waits for room.
 */
export function end(): void {
  if (!streams) process.exit()
}

/** Node writes to a file at once, and before version 22 throws from there. */
function write(stream: NodeJS.WriteStream, text: string | Uint8Array, fail: Fail): void {
  streams = true
  if (!stream.listeners('error').includes(fail as () => void)) stream.on('error', fail)
  try {
    stream.write(text)
  } catch (error) {
    fail(error as NodeJS.ErrnoException)
  }
}

let isLost = false

/** Says it once: the help is written in several parts. */
function lost({ code, message }: NodeJS.ErrnoException): void {
  if (code === 'EPIPE') process.exit(READER_GONE)
  process.exitCode = STATUS.failure
  if (isLost) return
  isLost = true
  say(`Cannot write the output: ${message}; send it to a place that has room`)
}
