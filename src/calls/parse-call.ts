import * as ofBpf from '../abi/bpf.ts'
import type { Mode } from '../abi/brand.ts'
import * as ofFcntl from '../abi/fcntl.ts'
import * as ofMount from '../abi/mount.ts'
import * as ofLimits from '../abi/rlimit.ts'
import * as ofSched from '../abi/sched.ts'
import * as ofStat from '../abi/stat.ts'
import * as ofXattr from '../abi/xattr.ts'
import { briefly, didYouMean, fewOf } from '../shared/texts.ts'
import { type ArgumentKind, argumentNames, argumentsOf, knownCalls } from './arguments.ts'
import { quoted } from './escape.ts'

const { ATTACH, BPF, BY_ID, INFO, LINK, LOAD, QUERY, UPDATE } = ofBpf
const { fileType, makedev, S_IFBLK, S_IFCHR } = ofStat

const prefixed = (prefix: string, names: Readonly<Record<string, number>>): readonly (readonly [string, number])[] =>
  Object.entries(names).map(([name, number]) => [`${prefix}${name}`, number])

/** Every constant of the kernel's headers that abi/ has, by its name. */
const CONSTANTS: ReadonlyMap<string, bigint> = new Map(
  [
    ...[ofBpf, ofFcntl, ofLimits, ofMount, ofSched, ofStat, ofXattr].flatMap((module) =>
      Object.entries<unknown>(module),
    ),
    ...prefixed('BPF_', BPF),
    ...prefixed('FSCONFIG_', ofMount.FSCONFIG),
    ...prefixed('RLIMIT_', ofLimits.RLIMIT),
    ['RLIM64_INFINITY', ofLimits.RLIM_INFINITY] as const,
    ...prefixed('SCHED_FLAG_', ofSched.SCHED_FLAG),
    ...prefixed('SCHED_', ofSched.SCHED),
    ...prefixed('PRIO_', ofSched.PRIO),
    ...prefixed('IOPRIO_WHO_', ofSched.IOPRIO_WHO),
    ...prefixed('IOPRIO_CLASS_', ofSched.IOPRIO_CLASS),
  ].flatMap(([name, value]) =>
    typeof value === 'number' || typeof value === 'bigint' ? [[name, BigInt(value)] as const] : [],
  ),
)

/** How far macros shift each argument. @see include/uapi/linux/version.h, which the build makes, and linux/ioprio.h */
const SHIFTS: Readonly<Record<string, readonly bigint[]>> = {
  KERNEL_VERSION: [16n, 8n, 0n],
  IOPRIO_PRIO_VALUE: [13n, 0n],
}

/** Where a member of a struct is, its size in bytes, and the size of an element where it points to a list. */
type StructMember = readonly [at: number, size: 4 | 8, element?: 4 | 8]
interface StructLayout {
  readonly size: number
  readonly members: Readonly<Record<string, StructMember>>
}

const ATTACHES: StructLayout = {
  size: 20,
  members: {
    target_fd: [ATTACH.target, 4],
    attach_bpf_fd: [ATTACH.program, 4],
    attach_type: [ATTACH.type, 4],
    attach_flags: [ATTACH.flags, 4],
    replace_bpf_fd: [ATTACH.replace, 4],
  },
}

/** The members of `union bpf_attr`, by the command, with the names of strace(1). */
const BPF_ATTRS: Readonly<Record<number, StructLayout>> = {
  [BPF.PROG_LOAD]: {
    size: 144,
    members: {
      prog_type: [LOAD.type, 4],
      insn_cnt: [LOAD.count, 4],
      insns: [LOAD.instructions, 8, 8],
      license: [LOAD.licence, 8],
      log_level: [LOAD.logLevel, 4],
      log_size: [LOAD.logSize, 4],
      log_buf: [LOAD.log, 8],
      kern_version: [LOAD.kernVersion, 4],
      prog_flags: [LOAD.flags, 4],
      expected_attach_type: [LOAD.expectedAttachType, 4],
    },
  },
  [BPF.PROG_ATTACH]: ATTACHES,
  [BPF.PROG_DETACH]: ATTACHES,
  [BPF.PROG_QUERY]: {
    size: 40,
    members: {
      target_fd: [QUERY.target, 4],
      attach_type: [QUERY.type, 4],
      query_flags: [QUERY.queryFlags, 4],
      attach_flags: [QUERY.attachFlags, 4],
      prog_ids: [QUERY.ids, 8, 4],
      prog_cnt: [QUERY.count, 4],
    },
  },
  [BPF.PROG_GET_FD_BY_ID]: { size: 12, members: { prog_id: [BY_ID.id, 4] } },
  [BPF.OBJ_GET_INFO_BY_FD]: {
    size: 16,
    members: { bpf_fd: [INFO.object, 4], info_len: [INFO.length, 4], info: [INFO.info, 8] },
  },
  [BPF.LINK_CREATE]: {
    size: 16,
    members: {
      prog_fd: [LINK.program, 4],
      target_fd: [LINK.target, 4],
      attach_type: [LINK.type, 4],
      flags: [LINK.flags, 4],
    },
  },
  [BPF.LINK_UPDATE]: {
    size: 16,
    members: {
      link_fd: [UPDATE.link, 4],
      new_prog_fd: [UPDATE.program, 4],
      flags: [UPDATE.flags, 4],
      old_prog_fd: [UPDATE.old, 4],
    },
  },
  [BPF.LINK_DETACH]: { size: 4, members: { link_fd: [UPDATE.link, 4] } },
}

const SCHED_PARAM: StructLayout = { size: 4, members: { sched_priority: [0, 4] } }
const RLIMITS: StructLayout = { size: ofLimits.limitSize(64), members: { rlim_cur: [0, 8], rlim_max: [8, 8] } }
const XATTR_ARGS: StructLayout = {
  size: ofXattr.XATTR_ARGS_SIZE,
  members: { value: [0, 8], size: [8, 4], flags: [12, 4] },
}

/** The structs to which arguments point, by the call. */
const LAYOUTS: Readonly<Record<string, StructLayout>> = {
  sched_setscheduler: SCHED_PARAM,
  sched_setparam: SCHED_PARAM,
  sched_setattr: {
    size: ofSched.SCHED_ATTR_SIZE_VER1,
    members: {
      ...{ size: [0, 4], sched_policy: [4, 4], sched_flags: [8, 8], sched_nice: [16, 4], sched_priority: [20, 4] },
      ...{ sched_runtime: [24, 8], sched_deadline: [32, 8], sched_period: [40, 8] },
      ...{ sched_util_min: [48, 4], sched_util_max: [52, 4] },
    },
  },
  prlimit64: RLIMITS,
  setrlimit: RLIMITS,
  mount_setattr: {
    size: ofMount.MOUNT_ATTR_SIZE,
    members: { attr_set: [0, 8], attr_clr: [8, 8], propagation: [16, 8], userns_fd: [24, 8] },
  },
  setxattrat: XATTR_ARGS,
  getxattrat: XATTR_ARGS,
}

/** What is at an address. */
export interface PointedTo {
  /** A text ends with its NUL. */
  readonly bytes: Uint8Array
  /** Whether there is more, which was not written: `...` */
  readonly isCut: boolean
  /** Whether zeros may follow: of a struct only members that matter are written, and a text ends at its NUL. */
  readonly isPadded: boolean
}

/** A call whose arguments are known: the registers, and what is in memory where they point to. */
export interface ParsedCall {
  readonly name: string
  readonly text: string
  readonly args: readonly bigint[]
  /** By address. */
  readonly memory: ReadonlyMap<bigint, PointedTo>
}

/** A text that is no call. The message points at the place. */
export class CallSyntaxError extends Error {
  override readonly name = 'CallSyntaxError'
}

const notServed = (name: string): CallSyntaxError =>
  new CallSyntaxError(
    `Intercede does not serve ${briefly(name)}${didYouMean(name, knownCalls) || `; it serves ${fewOf(knownCalls)}`}`,
  )

/** What a value is: a number, or bytes to which the argument or member points. */
type CallValue = { readonly number: bigint } | (PointedTo & { readonly size: number })

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', f: '\f', v: '\v', a: '\x07', b: '\b' }
const ESCAPED = /\\(?:([0-7]{1,3})|x([\da-f]{2})|(.))/gis
const NUMBER = /(?:0x[\da-f]+|0[0-7]*|[1-9]\d*)(?![\w])/iy
/** What strace(1) writes before a call: the process, and the time. */
const PREFIX = /(?:\[pid\s+\d+\]|\d+(?=\s))?\s*(?:(?:\d+:)*\d+(?:\.\d+)?(?=\s))?/y
const REGISTERS = 6
/** Where texts and structs of a parsed call are. */
const FIRST_ADDRESS = 0x6000_0000_0000n
const ADDRESS_STEP = 0x10_0000n
const TEXTS: ReadonlySet<ArgumentKind> = new Set(['path', 'name'])

const isDevice = (mode: bigint): boolean => [S_IFBLK, S_IFCHR].includes(fileType(Number(mode) as Mode))

/** Reads one call from its beginning to its end. */
class CallParser {
  readonly #text: string
  #at = 0
  readonly #memory = new Map<bigint, PointedTo>()
  /** The size of the last text or struct. */
  #size = 0

  constructor(text: string) {
    this.#text = text
  }

  parse(): ParsedCall {
    this.#match(PREFIX)
    const name = this.#match(/\w+/y) ?? this.#fail('the name of a call')
    const kinds = argumentsOf(name)
    if (!kinds) throw notServed(name)
    this.#expect('(')
    const args: bigint[] = []
    for (const [index, kind] of kinds.entries()) {
      if (kind === 'dev' && this.#peek() === ')' && !isDevice(args[index - 1]!)) {
        args.push(0n)
        continue
      }
      if (index > 0) this.#expect(',', `the argument "${argumentNames(name)[index]}" of ${name}, after a comma,`)
      args.push(this.#argument(kind, name, args))
    }
    this.#expect(')')
    if (!this.#match(/(?:=.*)?$/sy) && this.#at < this.#text.length) this.#fail('the end')
    const registers = [...args, ...Array<bigint>(REGISTERS - args.length).fill(0n)]
    return { name, text: this.#text, args: registers, memory: this.#memory }
  }

  /** Reads a number alone. */
  parseNumber(): bigint {
    const number = this.#device()
    if (this.#peek() !== undefined) this.#fail('the end')
    return number
  }

  #argument(kind: ArgumentKind, name: string, before: readonly bigint[]): bigint {
    if (kind === 'size' && this.#match(/sizeof/y)) return BigInt(this.#size)
    const isPointer = kind === 'pointer'
    if (isPointer || TEXTS.has(kind)) {
      const layout = name === 'bpf' ? BPF_ATTRS[Number(before[0])] : LAYOUTS[name]
      return this.#placed(this.#value(isPointer ? { layout, element: 4 } : {}))
    }
    return BigInt.asUintN(64, kind === 'dev' ? this.#device() : this.#number())
  }

  /** Puts what is pointed to into the memory. @returns its address, or the number itself */
  #placed(value: CallValue): bigint {
    if ('number' in value) return BigInt.asUintN(64, value.number)
    const at = FIRST_ADDRESS + BigInt(this.#memory.size) * ADDRESS_STEP
    this.#memory.set(at, value)
    this.#size = value.size
    return at
  }

  #value({ layout, element }: { readonly layout?: StructLayout | undefined; readonly element?: 4 | 8 }): CallValue {
    const next = this.#peek()
    if (next === '"') return this.#quoted()
    if (next === '[' && element) return this.#list(element)
    if (next === '{' && layout) return this.#struct(layout)
    if (next === '{' && element) return this.#leftOut()
    if (this.#match(/NULL\b/y)) return { number: 0n }
    const what = layout ? 'a struct in braces' : 'a text in quotes'
    return { number: this.#number(element ? `${what}, a text or list, an address, or NULL` : `${what}, or NULL`) }
  }

  /** Passes a struct that the kernel fills in. */
  #leftOut(): CallValue {
    let depth = 0
    do {
      const part = this.#match(/[{}]|"(?:[^"\\]|\\.)*"|[^{}"]+/sy) ?? this.#fail('a closing }')
      depth += Number(part === '{') - Number(part === '}')
    } while (depth > 0)
    return { bytes: new Uint8Array(), size: 0, isCut: true, isPadded: false }
  }

  #quoted(): CallValue {
    const found = this.#match(/"(?:[^"\\]|\\.)*"(?:\.\.\.)?/sy) ?? this.#fail('a quote at the end of the text')
    const body = found.replace(/^"|"(?:\.\.\.)?$/g, '')
    // Texts of records are bytes; what a person types is UTF-8.
    const parts = body.split(/(\\(?:[0-7]{1,3}|x[\da-f]{2}|.))/is).map((part) =>
      part.startsWith('\\')
        ? Buffer.from(
            part.replace(ESCAPED, (_, octal, hex, letter) =>
              letter === undefined
                ? String.fromCharCode(Number.parseInt(octal ?? hex, octal ? 8 : 16) & 0xff)
                : (ESCAPES[letter] ?? letter),
            ),
            'latin1',
          )
        : Buffer.from(part),
    )
    const bytes = Buffer.concat([...parts, Buffer.of(0)])
    return { bytes, size: bytes.length - 1, isCut: found.endsWith('...'), isPadded: true }
  }

  #list(element: 4 | 8): CallValue {
    this.#expect('[')
    const all: bigint[] = []
    while (!this.#match(/\]/y)) {
      if (all.length > 0) this.#expect(',', 'a comma or ]')
      all.push(BigInt.asUintN(8 * element, this.#number()))
    }
    const bytes = Buffer.alloc(element * all.length)
    for (const [index, each] of all.entries())
      if (element === 4) bytes.writeUInt32LE(Number(each), 4 * index)
      else bytes.writeBigUInt64LE(each, 8 * index)
    return { bytes, size: bytes.length, isCut: false, isPadded: false }
  }

  /** @param outer the struct in which this one is, as a union */
  #struct(layout: StructLayout, outer?: Buffer): CallValue {
    const bytes = outer ?? Buffer.alloc(layout.size)
    let isCut = false
    const hasSize = layout.members.size?.[0] === 0
    if (hasSize) bytes.writeUInt32LE(layout.size, 0)
    this.#expect('{')
    for (let isFirst = true; !this.#match(/\}/y); isFirst = false) {
      if (!isFirst) this.#expect(',', 'a comma or }')
      if (this.#match(/\.\.\./y)) isCut = true
      else this.#member(layout, bytes, outer === undefined)
    }
    return { bytes, size: layout.size, isCut, isPadded: true }
  }

  /** @param mayHold whether a struct may be in this one */
  #member(layout: StructLayout, view: Buffer, mayHold: boolean): void {
    const start = this.#at
    const name = this.#match(/\w+/y) ?? this.#fail('the name of a member')
    this.#expect('=')
    // strace(1) prints a union as a struct in the struct, and members that are zero.
    if (mayHold && this.#peek() === '{') {
      this.#struct(layout, view)
      return
    }
    const member = Object.hasOwn(layout.members, name) ? layout.members[name] : undefined
    if (!member) {
      if (this.#match(/(?:0|NULL|""|\[\])(?=\s*[,}])/y)) return
      this.#at = start
      const names = Object.keys(layout.members)
      this.#fail(`a member that is known${didYouMean(name, names) || ` (${names.join(', ')})`}`)
    }
    const [at, size, element] = member
    const value = this.#placed(this.#value(element ? { element } : {}))
    // What the kernel has put there.
    this.#match(/=>[^,}]*/y)
    if (size === 4) view.writeUInt32LE(Number(BigInt.asUintN(32, value)), at)
    else view.writeBigUInt64LE(value, at)
  }

  #device(): bigint {
    const isCall = this.#match(/makedev\s*\(/y) !== undefined
    const major = this.#number('a device such as 10:200')
    if (!isCall && this.#peek() !== ':') return major
    this.#expect(isCall ? ',' : ':')
    const minor = this.#number()
    if (isCall) this.#expect(')')
    if (major > 0xfffn || minor > 0xf_ffffn) this.#fail('a device with a major number below 4096 before this')
    return BigInt(makedev(Number(major), Number(minor)))
  }

  /** Reads a number: constants by their names, and several joined by `|`. */
  #number(what = 'a number or a constant'): bigint {
    let number = this.#term(what)
    while (this.#match(/\|/y)) number |= this.#term(what)
    this.#match(/<[^>]*>/y)
    return number
  }

  #term(what: string): bigint {
    const sign = this.#match(/-/y) ? -1n : 1n
    const digits = this.#match(NUMBER)
    if (digits !== undefined) {
      const number = BigInt(/^0\d/.test(digits) ? `0o${digits.slice(1)}` : digits)
      if (number !== BigInt.asUintN(64, number)) this.#fail('a number of at most 64 bits before this')
      return sign * number
    }
    const macro = this.#match(/(?:KERNEL_VERSION|IOPRIO_PRIO_VALUE)\s*\(/y)
    if (macro !== undefined) return this.#joined(SHIFTS[macro.replace(/\W+/, '')]!)
    const start = this.#at
    const name = this.#match(/[A-Za-z_]\w*/y)
    const known = name === undefined ? undefined : CONSTANTS.get(name)
    if (known !== undefined) return sign * known
    this.#at = start
    return this.#fail(what, name === undefined ? '' : didYouMean(name, CONSTANTS.keys()))
  }

  /** Reads the arguments of a macro that joins numbers. */
  #joined(shifts: readonly bigint[]): bigint {
    const parts = shifts.map((shift, index) => {
      if (index > 0) this.#expect(',')
      return this.#number() << shift
    })
    this.#expect(')')
    return parts.reduce((all, part) => all | part)
  }

  #space(): void {
    const space = /(?:\s|\/\*.*?\*\/)*/sy
    space.lastIndex = this.#at
    space.exec(this.#text)
    this.#at = space.lastIndex
  }

  #peek(): string | undefined {
    this.#space()
    return this.#text[this.#at]
  }

  /** Takes what the sticky expression matches here, and the space before it. */
  #match(expression: RegExp): string | undefined {
    this.#space()
    expression.lastIndex = this.#at
    const found = expression.exec(this.#text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }

  #expect(sign: string, what = JSON.stringify(sign)): void {
    if (this.#peek() !== sign) this.#fail(what)
    this.#at++
  }

  #fail(what: string, hint = ''): never {
    this.#space()
    const rest = this.#text.slice(this.#at)
    const found = rest === '' ? 'the end' : briefly(/^(?:\w+|.)/s.exec(rest)![0])
    throw new CallSyntaxError(`${what} must be at character ${this.#at + 1}, not ${found}${hint}`)
  }
}

/**
 * Reads a call as strace(1) and `spell` write it: `mknodat(AT_FDCWD, "tun", S_IFCHR|0666, 10:200)`. A result after it
 * is ignored.
 *
 * @throws {CallSyntaxError} for a call that is not served, or anything else
 */
export const parseCall = (text: string): ParsedCall => new CallParser(text).parse()

/** What an argument is that nobody has given; a kind that is missing here must be given. */
const USUAL: Readonly<Partial<Record<ArgumentKind, string>>> = {
  ...{
    dirfd: 'AT_FDCWD',
    pointer: 'NULL',
    size: 'sizeof',
    hex: '0',
    int: '0',
    uint: '0',
    mountFlags: '0',
    atFlags: '0',
  },
}
const isPlain = (value: string): boolean => !/^(?:["[{]|NULL$|0x[\da-f]+$)/i.test(value)

/**
 * Writes a call whose arguments are given by their names, so that `parseCall` can read it.
 *
 * @throws {CallSyntaxError} for a call that is not served, an unknown argument, or one that is missing
 */
export function callOfFields({ syscall: name = '', ...given }: Readonly<Record<string, string>>): string {
  const kinds = name === '' ? undefined : argumentsOf(name)
  if (!kinds) throw name === '' ? new CallSyntaxError('the fields lack "syscall"') : notServed(name)
  const names = argumentNames(name)
  const unknown = Object.keys(given).find((each) => !names.includes(each))
  if (unknown !== undefined)
    throw new CallSyntaxError(
      `${name} has no argument ${briefly(unknown)}${didYouMean(unknown, names) || `; its arguments are ${names.join(', ')}`}`,
    )
  const values = kinds.map((kind, index) => {
    const value = given[names[index]!] ?? USUAL[kind]
    if (value === undefined) throw new CallSyntaxError(`${name} lacks its argument "${names[index]}"`)
    const isText = TEXTS.has(kind) || (kind === 'pointer' && !/^\d/.test(value))
    return isText && isPlain(value) ? quoted(Buffer.from(value)) : value
  })
  return `${name}(${values.join(', ')})`
}

/** Reads a number or constant as it stands in a call; undefined if it is none. */
export function numberIn(text: string): bigint | undefined {
  try {
    return new CallParser(text).parseNumber()
  } catch (error) {
    if (error instanceof CallSyntaxError) return undefined
    throw error
  }
}
