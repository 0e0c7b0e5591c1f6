import { PolicyError } from '../policy/error.ts'

/** The exit statuses of intercede itself; `run` ends with 126, 127 and the status of its command too. */
export const STATUS = {
  /** A question has the answer no: of `doctor`, `test`, `--check` and `--check-config`. */
  no: 1,
  /** The command line means nothing, whatever the machine is like. */
  usage: 2,
  /** The command line was understood, and what it asks for failed. */
  failure: 125,
  /** Ctrl-C, for who must clean up: the kernel ends all others. A shell shows the same. */
  interrupted: 130,
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

/** Reads what stands on the command line itself. @throws {UsageError} for every error of this type */
export function asUsage<T>(read: () => T, type: new (message: string) => Error = PolicyError): T {
  try {
    return read()
  } catch (error) {
    throw error instanceof type ? new UsageError(error.message) : error
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
export function checkUsage(isGood: boolean, message: string): void {
  if (!isGood) throw new UsageError(message)
}

export const statusFor = (error: unknown): number => (error as { exitCode?: number }).exitCode ?? STATUS.failure

/** What to do about errors of the kernel that have nothing to do with us. */
const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: 'run it as root of the host, with sudo',
  EPERM: 'run it as root of the host, with sudo',
  EROFS: 'make that file system writable',
  ENOSPC: 'make room there',
  EDQUOT: 'make room there',
  EFBIG: 'allow larger files with "ulimit -f unlimited"',
  EMFILE: 'allow more open files with "ulimit -n 1024"',
  ENFILE: 'end programs that hold many files open',
  EAGAIN: 'allow more processes with "ulimit -u"',
  ENOMEM: 'give it more memory',
}

/** What each command does, after "Cannot". */
const DOES: Readonly<Record<string, string>> = {
  run: 'run the command',
  advise: 'advise',
  serve: 'serve',
  profile: 'make the profile',
  flags: 'say what to tell the runtime',
  doctor: 'look at this machine',
  set: 'set keys',
  reload: 'reload',
  stop: 'stop the container',
  test: 'test the policy',
  metrics: 'print metrics',
  api: 'answer',
  web: 'serve the page',
}

const remedyFor = (message: string): string =>
  REMEDIES[/\bE[A-Z]{3,}\b/.exec(message)?.[0] ?? ''] ?? '"intercede doctor" says what this machine lacks'

/** Returns the sentence for an error. What the kernel or Node says alone tells nobody what could not be done. */
export function sentence({ message }: Error, command = ''): string {
  if (message.startsWith('Cannot ')) return message
  return `Cannot ${DOES[command] ?? 'go on'}: ${message}; ${remedyFor(message)}`
}
