import type { Errno } from '../abi/brand.ts'
import {
  POSIX_SPAWN_SETCGROUP,
  POSIX_SPAWN_SETSID,
  POSIX_SPAWN_SETSIGDEF,
  POSIX_SPAWN_SETSIGMASK,
  SIG_IGN,
  SIGACTION_SIZE,
  SIGHUP,
  SIGSET_SIZE,
  SPAWN_ACTIONS_SIZE,
  SPAWN_ATTRIBUTES_SIZE,
} from '../abi/process.ts'
import { SyscallError } from './error.ts'
import { dup, type Fd, type Handle, passOn, setCloexecFrom } from './fd.ts'
import { address, check, cstring, lastErrno, libc } from './libc.ts'

const libcSpawn = libc.func(
  'int posix_spawnp(int32_t *pid, uint8_t *program, uint8_t *actions, uint8_t *attributes, uint64_t *argv, uint64_t *envp)',
)
const libcAttributes = libc.func('int posix_spawnattr_init(uint8_t *attributes)')
const libcSetFlags = libc.func('int posix_spawnattr_setflags(uint8_t *attributes, int16_t flags)')
const libcSetDefaults = libc.func('int posix_spawnattr_setsigdefault(uint8_t *attributes, uint8_t *signals)')
const libcActions = libc.func('int posix_spawn_file_actions_init(uint8_t *actions)')
const libcAddDup2 = libc.func('int posix_spawn_file_actions_adddup2(uint8_t *actions, int fd, int as)')
const libcDestroy = libc.func('int posix_spawn_file_actions_destroy(uint8_t *actions)')
/** The GNU C library has this since 2.29. */
const libcAddChdir = known('int posix_spawn_file_actions_addchdir_np(uint8_t *actions, uint8_t *path)')
/** The GNU C library has this since 2.34. */
const libcAddCloseFrom = known('int posix_spawn_file_actions_addclosefrom_np(uint8_t *actions, int first)')
/** The GNU C library has this since 2.39. */
const libcSetCgroup = known('int posix_spawnattr_setcgroup_np(uint8_t *attributes, int cgroup)')

function known(declaration: string): ReturnType<typeof libc.func> | undefined {
  try {
    return libc.func(declaration)
  } catch {
    return undefined
  }
}

/** Tells whether the C library can start a process inside a cgroup. */
export const spawnsInto: boolean = libcAddCloseFrom !== undefined && libcSetCgroup !== undefined

/** The program, which is looked for in PATH, and its arguments. */
type Command = readonly [string, ...string[]]

interface SpawnOptions {
  /** The descriptors that the program gets as 0, 1, 2, ...; their own numbers must be higher than its. */
  readonly fds: readonly Handle[]
  readonly environment: readonly string[]
  /**
   * The directory of a cgroup of v2 in which the process begins; without it in ours. It shares our memory until it
   * executes the program, so a group that kills it for want of memory kills us too: only for a group in which nobody
   * is.
   * Precondition: `spawnsInto`.
   */
  readonly cgroup?: Handle | undefined
  /** Whether the process begins a session of its own. */
  readonly detached?: boolean
  /** Whether it ignores none of the signals that this process ignores. */
  readonly heedful?: boolean
  /** The directory in which it begins, if the C library can do that; without it in ours. */
  readonly directory?: string
}

const ALL_SIGNALS = new Uint8Array(SIGSET_SIZE).fill(0xff)
/** The lowest number of the descriptors that a process is given, before they get their own numbers. */
const LEAST = 16

/** Strings as the kernel wants them; `pointers` is good as long as `bytes` lives. */
function vector(words: readonly string[]): { readonly pointers: BigUint64Array; readonly bytes: Uint8Array } {
  const encoded = words.map(cstring)
  const bytes = Buffer.concat(encoded.length > 0 ? encoded : [cstring('')])
  const pointers = new BigUint64Array(words.length + 1)
  let at = address(bytes)
  for (const [index, { length }] of encoded.entries()) {
    pointers[index] = at
    at += BigInt(length)
  }
  return { pointers, bytes }
}

/** What posix_spawn(3) takes; it uses the memory until it returns. */
interface Spawning {
  readonly pid: Int32Array
  readonly actions: Uint8Array
  readonly rest: readonly unknown[]
  readonly used: readonly object[]
}

function spawning(command: Command, { fds, environment, cgroup, directory, ...how }: SpawnOptions): Spawning {
  // One memory: what is used at the end keeps all of it until then.
  const memory = new Uint8Array(SPAWN_ACTIONS_SIZE + SPAWN_ATTRIBUTES_SIZE)
  const [actions, attributes] = [memory.subarray(0, SPAWN_ACTIONS_SIZE), memory.subarray(SPAWN_ACTIONS_SIZE)]
  libcActions(actions)
  for (const [as, { raw }] of fds.entries()) libcAddDup2(actions, raw, as)
  libcAddCloseFrom?.(actions, fds.length)
  if (directory !== undefined) libcAddChdir?.(actions, cstring(directory))
  libcAttributes(attributes)
  if (how.heedful) libcSetDefaults(attributes, ALL_SIGNALS)
  const flags = (how.detached ? POSIX_SPAWN_SETSID : 0) | (how.heedful ? POSIX_SPAWN_SETSIGDEF : 0)
  libcSetFlags(attributes, POSIX_SPAWN_SETSIGMASK | flags | (cgroup ? POSIX_SPAWN_SETCGROUP : 0))
  if (cgroup) libcSetCgroup!(attributes, cgroup.raw)
  const [argv, envp] = [vector(command), vector(environment)]
  const pid = new Int32Array(1)
  const rest = [cstring(command[0]), actions, attributes, argv.pointers, envp.pointers]
  return { pid, actions, rest, used: [memory, argv, envp] }
}

/**
 * Starts a program, with no other descriptors than the given ones; it has no copies of the others any more when this
 * returns, and ignores no signal. Node's own way copies the tables of all our memory,
 * and makes the kernel copy each page that we write to afterwards: it takes 5 to 10 ms.
 *
 * @returns the number of the process, which the caller must reap
 * @throws {SyscallError} the program's errors of execve(2), EAGAIN
 * @see posix_spawn(3)
 */
export function spawnNow(command: Command, options: Omit<SpawnOptions, 'heedful'>): number {
  const copies: Fd[] = []
  const { length } = options.fds
  try {
    for (const fd of options.fds) copies.push(dup(fd, Math.max(LEAST, length)))
    const { pid, actions, rest, used } = spawning(command, { ...options, fds: copies, heedful: true })
    const errno = libcSpawn(pid, ...rest) as Errno
    libcDestroy(actions)
    if (errno !== 0) throw new SyscallError('posix_spawn', errno)
    return used.length > 0 ? pid[0]! : 0
  } finally {
    for (const copy of copies) copy[Symbol.dispose]()
  }
}

const libcExecv = libc.func('int execv(const char *program, const char **argv)')
const libcSigaction = libc.func('int sigaction(int signal, uint8_t *action, uint8_t *old)')

/** The handler is the first word of `struct sigaction`. */
const IGNORED = new Uint8Array(SIGACTION_SIZE)
IGNORED[0] = SIG_IGN
/** Node marks the standard streams close-on-exec when it starts. */
const STANDARD = [0, 1, 2]

/**
 * Replaces the program of this process. The new program gets our environment, the standard streams and `fds` under
 * their numbers, and no other descriptor. SIGHUP, which would end the process, is ignored until the new program
 * resets that.
 *
 * Preconditions: the main thread calls this, whose signal mask the program gets, while no thread forks.
 *
 * @throws {SyscallError} if `program` cannot be executed; then only the flags of the standard streams have changed
 * @see execve(2)
 */
export function execv(program: string, args: readonly string[], fds: readonly Handle[]): never {
  // This includes descriptors which Node inherited and does not know.
  setCloexecFrom(STANDARD.length)
  for (const raw of [...STANDARD, ...fds.map(({ raw }) => raw)]) passOn(raw)
  const old = new Uint8Array(SIGACTION_SIZE)
  check('sigaction', libcSigaction(SIGHUP, IGNORED, old))
  libcExecv(program, [program, ...args, null])
  const errno = lastErrno()
  setCloexecFrom(STANDARD.length)
  libcSigaction(SIGHUP, old, null)
  throw new SyscallError('execve', errno)
}
