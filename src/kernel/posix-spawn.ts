import {
  POSIX_SPAWN_SETCGROUP,
  POSIX_SPAWN_SETSIGMASK,
  SPAWN_ACTIONS_SIZE,
  SPAWN_ATTRIBUTES_SIZE,
} from '../abi/spawn.ts'
import type { Handle } from './handle.ts'
import { libc } from './libc.ts'

const libcSpawn = libc.func(
  'int posix_spawnp(int32_t *pid, const char *program, uint8_t *actions, uint8_t *attributes, const char **argv, const char **envp)',
)
const libcAttributes = libc.func('int posix_spawnattr_init(uint8_t *attributes)')
const libcSetFlags = libc.func('int posix_spawnattr_setflags(uint8_t *attributes, int16_t flags)')
const libcActions = libc.func('int posix_spawn_file_actions_init(uint8_t *actions)')
const libcAddDup2 = libc.func('int posix_spawn_file_actions_adddup2(uint8_t *actions, int fd, int as)')
const libcDestroy = libc.func('int posix_spawn_file_actions_destroy(uint8_t *actions)')
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

interface SpawnOptions {
  /** The descriptors that the program gets as 0, 1, 2, ...; their own numbers must be higher than its. */
  readonly fds: readonly Handle[]
  readonly environment: readonly string[]
  /** The directory of a cgroup of v2 in which the process begins; without it in ours. */
  readonly cgroup: Handle | undefined
}

/**
 * Starts a program, with no other descriptors than the given ones, on a thread of libuv's pool: that thread waits until
 * the program is executed, which takes as long as the cgroup lets the process run.
 *
 * Precondition: `spawnsInto`.
 *
 * @param command the program, which is looked for in PATH, and its arguments
 * @param done gets 0 and the number of the process, or an error number; that is negative if the process was killed
 *   before it executed the program
 * @see posix_spawn(3), clone3(2) CLONE_INTO_CGROUP
 */
export function spawnInto(
  command: readonly [string, ...string[]],
  { fds, environment, cgroup }: SpawnOptions,
  done: (errno: number, pid: number) => void,
): void {
  // One memory: what is used at the end keeps all of it until then.
  const memory = new Uint8Array(SPAWN_ACTIONS_SIZE + SPAWN_ATTRIBUTES_SIZE)
  const [actions, attributes] = [memory.subarray(0, SPAWN_ACTIONS_SIZE), memory.subarray(SPAWN_ACTIONS_SIZE)]
  libcActions(actions)
  for (const [as, { raw }] of fds.entries()) libcAddDup2(actions, raw, as)
  libcAddCloseFrom!(actions, fds.length)
  libcAttributes(attributes)
  libcSetFlags(attributes, POSIX_SPAWN_SETSIGMASK | (cgroup ? POSIX_SPAWN_SETCGROUP : 0))
  if (cgroup) libcSetCgroup!(attributes, cgroup.raw)
  const pid = new Int32Array(1)
  const [argv, envp] = [
    [...command, null],
    [...environment, null],
  ]
  libcSpawn.async(pid, command[0], actions, attributes, argv, envp, (error: Error | null, errno: number) => {
    libcDestroy(actions)
    if (error) throw error
    done(errno, pid[0]!)
  })
}
