import { type Cap, capabilities, capMask } from '../../src/abi/credentials.ts'
import { statFields } from '../support/stat.ts'
import { family, isEngine, list, read } from './processes.ts'

/** What a task may have. */
export interface Declared {
  readonly permitted: bigint
  readonly bounding: bigint
  readonly noNewPrivileges: boolean
  /** In effect while it does nothing: of a process, in its first thread; undefined if that may be anything. */
  readonly rest?: bigint | undefined
}

/** By what a task is. */
export type Declarations = ReadonlyMap<Kind, Declared>
type Kind = keyof typeof RESTS

interface Sets {
  readonly effective: bigint
  readonly permitted: bigint
  readonly bounding: bigint
  readonly noNewPrivileges: boolean
  /** Grows whenever it runs. */
  readonly switches: string
}

/** The effective user of a thread that serves: nobody has that number. */
const NOBODY_AT_ALL = '4294967294'

/** Among the fields of a task's stat. */
const STARTED = 19

const names = (mask: bigint): string => {
  const found = capabilities.filter((cap) => (mask & capMask(cap)) !== 0n)
  return found.length > 12 ? `${found.length} capabilities` : found.join(' ') || 'none'
}

function setsOf(status: string): Sets {
  const mask = (name: string): bigint =>
    BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? 0}`)
  return {
    effective: mask('CapEff'),
    permitted: mask('CapPrm'),
    bounding: mask('CapBnd'),
    noNewPrivileges: /^NoNewPrivs:\s*1$/m.test(status),
    switches: [...status.matchAll(/^(?:non)?voluntary_ctxt_switches:\s*(\d+)$/gm)].map(([, count]) => count).join(),
  }
}

function beyond(sets: Sets, declared: Declared): string[] {
  const more = [
    ['permitted', sets.permitted & ~declared.permitted],
    ['effective', sets.effective & ~declared.permitted],
    ['bounding', sets.bounding & ~declared.bounding],
  ] as const
  const found = more.flatMap(([what, mask]) => (mask === 0n ? [] : [`${what} ${names(mask)}`]))
  return declared.noNewPrivileges && !sets.noNewPrivileges ? [...found, 'no_new_privs is not set'] : found
}

const atRest = ({ effective }: Sets, { rest = effective }: Declared): string[] =>
  effective === rest ? [] : [`at rest effective ${names(effective)}, not ${names(rest)}`]

function kindOf(status: string, commandLine: string): Kind | undefined {
  if (commandLine.includes('walker/main')) return 'walker'
  if (commandLine.includes('mounter/main')) return 'mounter'
  return new RegExp(`^Uid:\\s*\\d+\\s+${NOBODY_AT_ALL}\\s`, 'm').test(status) ? 'serving thread' : undefined
}

/** In what it waits that has nothing to do: futex, epoll_wait, epoll_pwait and ioctl of x86_64; read, poll, recvfrom, recvmsg. */
const RESTS = { 'serving thread': /^(202|232|281|16) /, mounter: /^(0|7|45|47) /, walker: /^(0|7|45|47) / } as const

/** Of its process. */
const isFirst = (path: string): boolean => /\/(\d+)\/task\/\1$/.test(path)

/** Samples what the threads of the engine, and the processes that it starts, may do; which changes nothing of theirs. */
export class CapabilitySets {
  readonly #keeper: number
  readonly #declared: Declarations
  /** Of what there was one to look at. */
  readonly seen = new Set<Kind>()
  /** How often each task had run at the last look. */
  #last = new Map<string, string>()

  /** @param keeper the process that started the container */
  constructor(keeper: number, declared: Declarations) {
    this.#keeper = keeper
    this.#declared = declared
  }

  /** Of those that were there at the last look: what has just begun gives up what it may not have. */
  look(): string[] {
    const now = new Map<string, string>()
    const found = this.#tasks().flatMap((path) => {
      const status = read(`${path}/status`)
      const sets = setsOf(status)
      const task = `${path}@${statFields(`${path}/stat`)[STARTED]}`
      const before = this.#last.get(task)
      now.set(task, sets.switches)
      const kind = kindOf(status, read(`${path}/cmdline`))
      const declared = kind && this.#declared.get(kind)
      if (!declared || before === undefined) return []
      this.seen.add(kind)
      const isAtRest =
        before === sets.switches &&
        RESTS[kind].test(read(`${path}/syscall`)) &&
        (kind === 'serving thread' || isFirst(path))
      const all = [...beyond(sets, declared), ...(isAtRest ? atRest(sets, declared) : [])]
      // It may have run on, or ended, while it was looked at.
      return setsOf(read(`${path}/status`)).switches === sets.switches ? all.map((what) => `${kind}: ${what}`) : []
    })
    this.#last = now
    return [...new Set(found)]
  }

  #tasks(): string[] {
    const of = (pid: string): string[] => list(`/proc/${pid}/task`).map((tid) => `/proc/${pid}/task/${tid}`)
    return family(this.#keeper)
      .filter((pid) => isEngine(pid) || /(walker|mounter)\/main/.test(read(`/proc/${pid}/cmdline`)))
      .flatMap(of)
  }
}

/** What the build says of its threads and processes; what it does not say cannot be looked at. */
export async function declarations(): Promise<{ readonly declared: Declarations; readonly unsaid: readonly string[] }> {
  const declared = new Map([...(await servingThreads()), ...(await helpers())])
  return { declared, unsaid: Object.keys(RESTS).filter((kind) => !declared.has(kind as Kind)) }
}

const built = <T>(path: string): Promise<T | undefined> =>
  import(new URL(`../../out/${path}`, import.meta.url).href).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ERR_MODULE_NOT_FOUND') return undefined
    throw error
  })

type Limit = { readonly permitted: readonly Cap[] }
type Entries = readonly (readonly [Kind, Declared])[]

async function servingThreads(): Promise<Entries> {
  const said = await built<Limit & { readonly steps: { readonly rest: { readonly caps: readonly Cap[] } } }>(
    'calls/steps.js',
  )
  if (!said) return []
  const limits = { permitted: capMask(...said.permitted), bounding: 0n, noNewPrivileges: true }
  return [['serving thread', { ...limits, rest: capMask(...said.steps.rest.caps) }]]
}

async function helpers(): Promise<Entries> {
  const said = await built<{ readonly processCaps: Readonly<Record<'mounter' | 'walker', Limit>> }>(
    'processes/process-caps.js',
  )
  if (!said) return []
  return (['mounter', 'walker'] as const).map((kind) => {
    const permitted = capMask(...said.processCaps[kind].permitted)
    return [kind, { permitted, bounding: permitted, noNewPrivileges: true, rest: 0n }]
  })
}
