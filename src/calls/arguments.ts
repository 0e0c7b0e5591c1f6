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
  | 'resource'

/** A kind, and before it the name of the argument where that is not the kind's. */
type NamedKind = ArgumentKind | `${string}:${ArgumentKind}`
type ArgumentTable = Readonly<Record<string, readonly NamedKind[]>>

const TABLE: ArgumentTable = {
  mknod: ['path', 'mode', 'dev'],
  mknodat: ['dirfd', 'path', 'mode', 'dev'],
  mount: ['source:path', 'target:path', 'type:name', 'flags:mountFlags', 'data:pointer'],
  umount2: ['target:path', 'flags:hex'],
  fsopen: ['type:name', 'flags:hex'],
  fsconfig: ['fd', 'command:fsconfigCommand', 'key:name', 'value:pointer', 'aux:int'],
  fsmount: ['fd', 'flags:hex', 'attributes:hex'],
  fspick: ['dirfd', 'path', 'flags:hex'],
  move_mount: ['from:dirfd', 'fromPath:path', 'to:dirfd', 'toPath:path', 'flags:hex'],
  mount_setattr: ['dirfd', 'path', 'flags:atFlags', 'attr:pointer', 'size'],
  bpf: ['command:bpfCommand', 'attr:pointer', 'size'],
  sysinfo: ['info:pointer'],
  sched_setscheduler: ['pid:int', 'policy:schedPolicy', 'param:pointer'],
  sched_setparam: ['pid:int', 'param:pointer'],
  sched_setattr: ['pid:int', 'attr:pointer', 'flags:uint'],
  setpriority: ['which:int', 'who:int', 'prio:int'],
  prlimit64: ['pid:int', 'resource', 'new:pointer', 'old:pointer'],
  setrlimit: ['resource', 'limit:pointer'],
  ioprio_set: ['which:int', 'who:int', 'ioprio:hex'],
}

const XATTR: ArgumentTable = {
  setxattr: ['name', 'value:pointer', 'size', 'flags:hex'],
  getxattr: ['name', 'value:pointer', 'size'],
  listxattr: ['list:pointer', 'size'],
  removexattr: ['name'],
}
const FORMS: readonly (readonly [prefix: string, file: readonly NamedKind[]])[] = [
  ['', ['path']],
  ['l', ['path']],
  ['f', ['fd']],
]
const AT: ArgumentTable = {
  setxattrat: ['dirfd', 'path', 'flags:atFlags', 'name', 'args:pointer', 'size'],
  getxattrat: ['dirfd', 'path', 'flags:atFlags', 'name', 'args:pointer', 'size'],
  listxattrat: ['dirfd', 'path', 'flags:atFlags', 'list:pointer', 'size'],
  removexattrat: ['dirfd', 'path', 'flags:atFlags', 'name'],
}

const table = new Map<string, readonly NamedKind[]>([
  ...Object.entries(TABLE),
  ...Object.entries(AT),
  ...Object.entries(XATTR).flatMap(([name, rest]) =>
    FORMS.map(([prefix, file]): [string, readonly NamedKind[]] => [`${prefix}${name}`, [...file, ...rest]]),
  ),
])

const all = new Map([...table].map(([name, args]) => [name, args.map((arg) => arg.replace(/.*:/, '') as ArgumentKind)]))

/** The calls whose arguments are known: those that are served. */
export const knownCalls: readonly string[] = [...table.keys()]

/** Returns the names of a call's arguments. */
export const argumentNames = (name: string): readonly string[] =>
  (table.get(name) ?? []).map((arg) => arg.replace(/:.*/, ''))

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
