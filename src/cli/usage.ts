import { PolicyError } from '../policy/error.ts'

/** The exit statuses of intercede itself; `run` ends with 126, 127 and the status of its command too. */
export const STATUS = {
  /** A question has the answer no: of `doctor`, `--check` and `--check-config`. */
  no: 1,
  /** The command line means nothing, whatever the machine is like. */
  usage: 2,
  /** The command line was understood, and what it asks for failed. */
  failure: 125,
} as const

/** A command line that means nothing. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly exitCode = STATUS.usage
}

/** A question whose answer is no. */
export class NegativeAnswer extends Error {
  override readonly name = 'NegativeAnswer'
  readonly exitCode = STATUS.no
}

/** Reads what stands on the command line itself. @throws {UsageError} for every PolicyError */
export function asUsage<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw error instanceof PolicyError ? new UsageError(error.message) : error
  }
}

/** Runs what answers a question. @throws {NegativeAnswer} for every other error */
export function asAnswer<T>(find: () => T): T {
  try {
    return find()
  } catch (error) {
    throw new NegativeAnswer((error as Error).message)
  }
}

/** Requires something of a command line. @throws {UsageError} with this message */
export function mustBe(isGood: boolean, message: string): void {
  if (!isGood) throw new UsageError(message)
}

/** Returns the exit status for an error. */
export const statusFor = (error: unknown): number => (error as { exitCode?: number }).exitCode ?? STATUS.failure
