import { BPF } from '../abi/bpf.ts'
import type { Dev, Mode } from '../abi/brand.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import {
  FSCONFIG,
  MS_BIND,
  MS_MGC_MSK,
  MS_MGC_VAL,
  MS_MOVE,
  MS_NOATIME,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_PRIVATE,
  MS_RDONLY,
  MS_REC,
  MS_REMOUNT,
  MS_SHARED,
  MS_SLAVE,
  MS_UNBINDABLE,
} from '../abi/mount.ts'
import { RLIMIT } from '../abi/rlimit.ts'
import { SCHED, SCHED_RESET_ON_FORK } from '../abi/sched.ts'
import { fileType, major, minor, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG } from '../abi/stat.ts'
import { bitsOf, syscallName } from '../abi/syscalls.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { type ArgumentKind, argumentsOf, textsOf } from './arguments.ts'
import { quoted } from './escape.ts'
import { decodeTexts, type RecordedText } from './record.ts'

/** What a record has of the arguments of a call. */
export interface SpelledArguments {
  /** The registers; undefined if they were not recorded. */
  readonly args: readonly bigint[] | undefined
  readonly texts: Uint8Array
}

const int = (register: bigint): number => Number(BigInt.asIntN(32, register))
const uint = (register: bigint): number => Number(BigInt.asUintN(32, register))
const hex = (register: bigint): string => (register === 0n ? '0' : `0x${register.toString(16)}`)
const pointer = (register: bigint): string => (register === 0n ? 'NULL' : hex(register))

const inverse = (names: Readonly<Record<string, number>>, prefix: string): ReadonlyMap<number, string> =>
  new Map(Object.entries(names).map(([name, number]) => [number, `${prefix}${name}`]))
const FSCONFIG_NAMES = inverse(FSCONFIG, 'FSCONFIG_')
const BPF_NAMES = inverse(BPF, 'BPF_')
const RLIMIT_NAMES = inverse(RLIMIT, 'RLIMIT_')
const SCHED_NAMES = inverse(SCHED, 'SCHED_')

const MOUNT_FLAGS: readonly (readonly [bigint, string])[] = [
  [MS_RDONLY, 'MS_RDONLY'],
  [MS_NOSUID, 'MS_NOSUID'],
  [MS_NODEV, 'MS_NODEV'],
  [MS_NOEXEC, 'MS_NOEXEC'],
  [MS_REMOUNT, 'MS_REMOUNT'],
  [MS_NOATIME, 'MS_NOATIME'],
  [MS_BIND, 'MS_BIND'],
  [MS_MOVE, 'MS_MOVE'],
  [MS_REC, 'MS_REC'],
  [MS_UNBINDABLE, 'MS_UNBINDABLE'],
  [MS_PRIVATE, 'MS_PRIVATE'],
  [MS_SLAVE, 'MS_SLAVE'],
  [MS_SHARED, 'MS_SHARED'],
]

function mountFlags(register: bigint): string {
  const flags = (register & MS_MGC_MSK) === MS_MGC_VAL ? register & ~MS_MGC_MSK : register
  const names = MOUNT_FLAGS.filter(([flag]) => (flags & flag) !== 0n)
  const rest = names.reduce((left, [flag]) => left & ~flag, flags)
  return [...names.map(([, name]) => name), ...(rest !== 0n || names.length === 0 ? [hex(rest)] : [])].join('|')
}

const TYPES: ReadonlyMap<number, string> = new Map([
  [S_IFCHR, 'S_IFCHR'],
  [S_IFBLK, 'S_IFBLK'],
  [S_IFIFO, 'S_IFIFO'],
  [S_IFREG, 'S_IFREG'],
  [S_IFDIR, 'S_IFDIR'],
])

function mode(register: bigint): string {
  const bits = (uint(register) & 0xffff) as Mode
  const type = TYPES.get(fileType(bits))
  const rest = `0${(type ? bits & ~S_IFMT : bits).toString(8).padStart(3, '0')}`
  return type ? `${type}|${rest}` : rest
}

function schedPolicy(register: bigint): string {
  const policy = uint(register)
  const name = SCHED_NAMES.get(policy & ~SCHED_RESET_ON_FORK) ?? hex(BigInt(policy))
  return (policy & SCHED_RESET_ON_FORK) === 0 ? name : `${name}|SCHED_RESET_ON_FORK`
}

const dirfd = (register: bigint): string => (int(register) === AT_FDCWD ? 'AT_FDCWD' : `${int(register)}`)

const spellings: Readonly<Record<ArgumentKind, (register: bigint) => string>> = {
  path: pointer,
  name: pointer,
  dirfd,
  fd: (register) => `${int(register)}`,
  int: (register) => `${int(register)}`,
  uint: (register) => `${uint(register)}`,
  size: (register) => `${register}`,
  pointer,
  hex,
  mode,
  dev: (register) => `${major(uint(register) as Dev)}:${minor(uint(register) as Dev)}`,
  mountFlags,
  fsconfigCommand: (register) => FSCONFIG_NAMES.get(uint(register)) ?? hex(register),
  bpfCommand: (register) => BPF_NAMES.get(uint(register)) ?? hex(register),
  schedPolicy,
  resource: (register) => RLIMIT_NAMES.get(uint(register)) ?? hex(register),
  atFlags: (register) => hex(BigInt(uint(register))),
}

const shownText = ({ bytes, isCut }: RecordedText): string => `${quoted(bytes)}${isCut ? '...' : ''}`

/**
 * Spells a call as strace(1) does: `mknodat(AT_FDCWD, "dev/fuse", S_IFCHR|0666, 10:229)`. A text that was not copied is
 * its address. Of a call that was left to the kernel the texts are those that were read: the caller may have changed
 * them since.
 */
export function spell(arch: number, nr: number, { args, texts }: SpelledArguments): string {
  const name = syscallName(arch, nr) ?? (nr < 0 ? 'other calls' : `syscall_${nr}`)
  if (!args) return `${name}(...)`
  const known = decodeTexts(texts)
  // A 64-bit task may make a call of 32 bits, with upper halves that the kernel does not see.
  const seen = (register: bigint): bigint => (bitsOf(arch) === 32 ? BigInt.asUintN(32, register) : register)
  const kinds = argumentsOf(name) ?? args.map((): ArgumentKind => 'hex')
  const spelled = kinds.map((kind, index) => {
    const text = known.get(index)
    return text ? shownText(text) : spellings[kind](seen(args[index]!))
  })
  return `${name}(${spelled.join(', ')})`
}

/** An argument of a call that was spelled: a text in quotes, or anything up to a comma. */
const SPELLED = /"(?:[^"\\]|\\.)*"(?:\.\.\.)?|[^", ][^",]*/g

/** Takes back what was spelled of the arguments of a call beyond a mode. */
export function unspell(call: string, mode: ArgumentMode): string {
  const [, name = '', args = ''] = /^(\w+)\((.*)\)$/s.exec(call) ?? []
  if (mode === 'all') return call
  if (mode === 'none' || name === '') return `${name || 'a call'}(...)`
  const kept = textsOf(name, mode)
  const rest = [...args.matchAll(SPELLED)].map(([each], index) =>
    each.startsWith('"') && !kept.includes(index) ? '...' : each,
  )
  return `${name}(${rest.join(', ')})`
}
