import type { ArgumentMode } from '../policy/config.ts'

/**
 * What the arguments of a call are: how they are spelled, and which texts in the caller's memory may be recorded. path
 * is a text, and so is name, which is a name of the kernel's. Values of attributes, options and programs are pointers
 * here: they may be secrets, so nobody records them.
 */
export type ArgumentKind =
  | 'path'
  | 'name'
  | 'dirfd'
  | 'fd'
  | 'int'
  | 'uint'
  | 'size'
  | 'pointer'
  | 'hex'
  | 'mode'
  | 'dev'
  | 'mountFlags'
  | 'fsconfigCommand'
  | 'bpfCommand'
  | 'schedPolicy'
  | 'atFlags'

const TABLE: Readonly<Record<string, readonly ArgumentKind[]>> = {
  mknod: ['path', 'mode', 'dev'],
  mknodat: ['dirfd', 'path', 'mode', 'dev'],
  mount: ['path', 'path', 'name', 'mountFlags', 'pointer'],
  umount2: ['path', 'hex'],
  fsopen: ['name', 'hex'],
  fsconfig: ['fd', 'fsconfigCommand', 'name', 'pointer', 'int'],
  fsmount: ['fd', 'hex', 'hex'],
  fspick: ['dirfd', 'path', 'hex'],
  move_mount: ['dirfd', 'path', 'dirfd', 'path', 'hex'],
  mount_setattr: ['dirfd', 'path', 'atFlags', 'pointer', 'size'],
  bpf: ['bpfCommand', 'pointer', 'size'],
  sysinfo: ['pointer'],
  sched_setscheduler: ['int', 'schedPolicy', 'pointer'],
  sched_setparam: ['int', 'pointer'],
  sched_setattr: ['int', 'pointer', 'uint'],
}

const XATTR: Readonly<Record<string, readonly ArgumentKind[]>> = {
  setxattr: ['name', 'pointer', 'size', 'hex'],
  getxattr: ['name', 'pointer', 'size'],
  listxattr: ['pointer', 'size'],
  removexattr: ['name'],
}
const FORMS: readonly (readonly [prefix: string, file: readonly ArgumentKind[]])[] = [
  ['', ['path']],
  ['l', ['path']],
  ['f', ['fd']],
]
const AT: Readonly<Record<string, readonly ArgumentKind[]>> = {
  setxattrat: ['dirfd', 'path', 'atFlags', 'name', 'pointer', 'size'],
  getxattrat: ['dirfd', 'path', 'atFlags', 'name', 'pointer', 'size'],
  listxattrat: ['dirfd', 'path', 'atFlags', 'pointer', 'size'],
  removexattrat: ['dirfd', 'path', 'atFlags', 'name'],
}

const all = new Map<string, readonly ArgumentKind[]>([
  ...Object.entries(TABLE),
  ...Object.entries(AT),
  ...Object.entries(XATTR).flatMap(([name, rest]) =>
    FORMS.map(([prefix, file]): [string, readonly ArgumentKind[]] => [`${prefix}${name}`, [...file, ...rest]]),
  ),
])

/** Returns what the arguments of a call are; undefined for a call that is not served. */
export const argumentsOf = (name: string): readonly ArgumentKind[] | undefined => all.get(name)

/** Returns for each call the indices of the arguments whose texts may be recorded. */
export const allTexts = (mode: ArgumentMode): ReadonlyMap<string, readonly number[]> =>
  new Map([...all.keys()].map((name) => [name, textsOf(name, mode)]))

/** Returns the indices of the arguments of a call whose texts may be recorded. */
export function textsOf(name: string, mode: ArgumentMode): readonly number[] {
  const isText = (kind: ArgumentKind): boolean => kind === 'name' || (kind === 'path' && mode === 'all')
  const kinds = mode === 'none' ? [] : (argumentsOf(name) ?? [])
  return kinds.flatMap((kind, index) => (isText(kind) ? [index] : []))
}
