import { writeSync } from 'node:fs'
import { oneLine } from '../shared/one-line.ts'
import { STATUS } from './usage.ts'

/** Says one sentence on standard error. If that cannot be written to, nobody can be told. */
export function say(text: string): void {
  listen(process.stderr, () => {})
  attempt(
    () => process.stderr.write(`intercede: ${oneLine(text)}\n`),
    () => {},
  )
}

/**
 * Prints on standard output. If that fails, the exit status says so and standard error why, except to a reader that has
 * gone, as `| head` does. `run` never comes here, since it shares its standard output with the container.
 */
export function print(text: string | Uint8Array): void {
  listen(process.stdout, lost)
  attempt(() => process.stdout.write(text), lost)
}

/** Does the same without the streams of Node, which take a millisecond or two to load, for who prints nothing else. */
export function printAtOnce(text: string): void {
  let rest = Buffer.from(text)
  try {
    while (rest.length > 0) rest = rest.subarray(writeSync(1, rest))
  } catch (error) {
    // Somebody who shares it has made it non-blocking: the stream waits until there is room.
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') print(rest)
    else lost(error as NodeJS.ErrnoException)
  }
}

type Fail = (error: NodeJS.ErrnoException) => void

function listen(stream: NodeJS.WriteStream, fail: Fail): void {
  if (stream.listenerCount('error') === 0) stream.on('error', fail)
}

/** Node writes to a file at once, and before version 22 throws from there. */
function attempt(write: () => void, fail: Fail): void {
  try {
    write()
  } catch (error) {
    fail(error as NodeJS.ErrnoException)
  }
}

function lost({ code, message }: NodeJS.ErrnoException): void {
  process.exitCode = STATUS.failure
  if (code !== 'EPIPE') say(`Cannot write the output: ${message}; send it where there is room`)
}
