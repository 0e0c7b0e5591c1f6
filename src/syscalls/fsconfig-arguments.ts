import { AT_FDCWD } from '../abi/fcntl.ts'
import { FSCONFIG as command } from '../abi/mount.ts'
import type { Registers } from '../calls/caller.ts'

/** Maximum size of a parameter of bytes: linux/fs/fsopen.c fsconfig(). */
const BYTES_MAX = 1024 * 1024

/** Commands that set a parameter which is neither a flag nor a string. */
export const OF_OTHER_KINDS: ReadonlySet<number> = new Set([
  command.SET_BINARY,
  command.SET_PATH,
  command.SET_PATH_EMPTY,
  command.SET_FD,
])

interface Shape {
  readonly key: boolean
  readonly value: boolean
  readonly aux: (aux: number) => boolean
}

const isZero = (aux: number): boolean => aux === 0
const COMMAND: Shape = { key: false, value: false, aux: isZero }
const PATH: Shape = { key: true, value: true, aux: (aux) => aux === AT_FDCWD || aux >= 0 }

/** What the kernel takes of the arguments of each command that we serve. */
const SHAPES: Readonly<Partial<Record<number, Shape>>> = {
  [command.SET_FLAG]: { key: true, value: false, aux: isZero },
  [command.SET_STRING]: { key: true, value: true, aux: isZero },
  [command.SET_BINARY]: { key: true, value: true, aux: (aux) => aux > 0 && aux <= BYTES_MAX },
  [command.SET_PATH]: PATH,
  [command.SET_PATH_EMPTY]: PATH,
  [command.SET_FD]: { key: true, value: false, aux: (aux) => aux >= 0 },
  [command.CMD_CREATE]: COMMAND,
  [command.CMD_CREATE_EXCL]: COMMAND,
  [command.CMD_RECONFIGURE]: COMMAND,
}

/** Tells whether fsconfig(2) has valid arguments; otherwise the kernel answers EINVAL for any descriptor. */
export function isWellFormed(args: Registers): boolean {
  const shape = SHAPES[args.uint(1)]
  if (!shape) return false
  const [hasKey, hasValue] = [args.pointer(2) !== 0n, args.pointer(3) !== 0n]
  return hasKey === shape.key && hasValue === shape.value && shape.aux(args.int(4))
}
