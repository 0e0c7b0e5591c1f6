import { type Rule, trappedBy } from '../calls/syscall.ts'
import { compileOci } from './compile.ts'
import type { OciArg, OciRule, OciSeccomp } from './oci.ts'

/** An LXC policy of version 2, as lines; a line that is a rule in force has this rule. */
export interface LxcPolicy {
  readonly style: string
  readonly lines: readonly { readonly text: string; readonly rule?: OciRule }[]
  /** The policy as an OCI profile, for code that compares and merges profiles. */
  readonly profile: OciSeccomp
}

const EMPTY = '2\ndenylist\n'
const STYLE = /^\s*2\s+((?:deny|black|allow|white)list\b[^\n]*)\n?/
const RULE = /^([a-zA-Z0-9_]+)(?:\s+([a-z][^[#]*))?((?:\[[^\]]*\]\s*)*)\s*(?:#.*)?$/
const ARGUMENT = /^(\d),(\w+),([A-Z_]+|[!<>=&]+)(?:,(\w+))?$/
const operators: Readonly<Record<string, string>> = {
  '!=': 'SCMP_CMP_NE',
  '<': 'SCMP_CMP_LT',
  '<=': 'SCMP_CMP_LE',
  '==': 'SCMP_CMP_EQ',
  '>=': 'SCMP_CMP_GE',
  '>': 'SCMP_CMP_GT',
  '&=': 'SCMP_CMP_MASKED_EQ',
}
const actions: Readonly<Record<string, string>> = {
  allow: 'SCMP_ACT_ALLOW',
  kill: 'SCMP_ACT_KILL',
  trap: 'SCMP_ACT_TRAP',
  notify: 'SCMP_ACT_NOTIFY',
}
const actionNames = new Map(Object.entries(actions).map(([name, action]) => [action, name]))
/** A word that is not the name of a call: LXC makes a rule of it, EACCES for umount2 with MNT_FORCE. */
const SPECIAL = 'reject_force_umount'
const FORCED = 'umount2'

type Action = Pick<OciRule, 'action' | 'errnoRet'>

/**
 * Parses a policy as LXC does: a rule holds for every architecture, whatever section it is in, except in a section
 * that this machine does not know.
 *
 * @param sections the sections that this machine knows, in lower case
 * @throws {RangeError} that says which line is not understood
 * @see lxc src/lxc/seccomp.c parse_config_v2(), get_v2_action(), get_seccomp_arg_value()
 */
export function parseLxcPolicy(text: string, sections: ReadonlySet<string>): LxcPolicy {
  const head = STYLE.exec(text)
  if (!head) throw new RangeError('it is no policy of version 2: a line "2", then "denylist" or "allowlist"')
  const style = head[1]!.trimEnd()
  const denies = /^(?:deny|black)/.test(style)
  const [, whole = ''] = style.split(/\s+(.*)/)
  const fallback = whole === '' ? { action: denies ? actions.allow! : actions.kill! } : toAction(whole, style)
  const usual = { action: denies ? actions.kill! : actions.allow! }
  let isKnown = true
  const body = text.slice(head[0].length).replace(/\n$/, '')
  const lines = (body === '' ? [] : body.split('\n')).map((line) => {
    const section = /^\[(\w+)\]/.exec(line)?.[1]
    if (section !== undefined) isKnown = sections.has(section.toLowerCase())
    const isRule = section === undefined && isKnown && !/^(#|\s*$)/.test(line) && !line.startsWith(SPECIAL)
    return isRule ? { text: line, rule: toRule(line, usual) } : { text: line }
  })
  const { action: defaultAction, errnoRet } = fallback
  const syscalls = lines.flatMap(({ rule }) => rule ?? [])
  return {
    style,
    lines,
    profile: { defaultAction, ...(errnoRet === undefined ? {} : { defaultErrnoRet: errnoRet }), syscalls },
  }
}

function toRule(line: string, usual: Action): OciRule {
  const found = RULE.exec(line)
  if (!found) throw new RangeError(`its rule ${JSON.stringify(line)} is not understood`)
  const [, name = '', action = '', conditions = ''] = found
  const args = [...conditions.matchAll(/\[([^\]]*)\]/g)].map(([, argument = '']) => toArg(argument, line))
  return {
    names: [name],
    ...(action.trim() === '' ? usual : toAction(action, line)),
    ...(args.length > 0 ? { args } : {}),
  }
}

function toAction(text: string, line: string): Action {
  const errno = /^errno\s*(\d+)/.exec(text)?.[1]
  if (errno !== undefined) return { action: 'SCMP_ACT_ERRNO', errnoRet: Number(errno) }
  const action = actions[text.trim()]
  if (action === undefined) throw new RangeError(`the action of ${JSON.stringify(line)} is not understood`)
  return { action }
}

function toArg(text: string, line: string): OciArg {
  const [, index, value = '', given = '', mask] = ARGUMENT.exec(text) ?? []
  const op = operators[given] ?? given
  if (index === undefined || !Object.values(operators).includes(op) || Number(index) > 5)
    throw new RangeError(`a condition of ${JSON.stringify(line)} is not understood`)
  if (op !== 'SCMP_CMP_MASKED_EQ') return { index: Number(index), value: toNumber(value, line), op }
  return { index: Number(index), value: toNumber(mask ?? '0', line), valueTwo: toNumber(value, line), op }
}

/** Parses a number as strtoull(3) with base 0. */
function toNumber(text: string, line: string): bigint {
  const octal = /^0([0-7]+)$/.exec(text)?.[1]
  if (octal === undefined && !/^(0x[0-9a-f]+|[1-9]\d*|0)$/i.test(text))
    throw new RangeError(`a number of ${JSON.stringify(line)} is not understood`)
  return BigInt(octal === undefined ? text : `0o${octal}`)
}

/**
 * Compiles the rules of the handlers into an LXC policy. A base stays in force wherever no rule matches: its lines
 * are kept, except for those of trapped calls.
 *
 * @param comments lines for the beginning of the policy
 * @throws {RangeError} if the base is not understood, or its rules for a trapped call contradict each other
 */
export function compileLxc(
  rules: readonly Rule[],
  { style, lines, profile }: LxcPolicy = parseLxcPolicy(EMPTY, new Set()),
  comments: readonly string[] = [],
): string {
  // LXC cannot have two rules for the same: what it rejects by itself stays rejected.
  const rejects = lines.some(({ text }) => text.startsWith(SPECIAL))
  const traps = rejects ? rules.filter(({ name }) => name !== FORCED) : rules
  const names = trappedBy(traps)
  const isTrapped = ({ names: [name = ''] }: OciRule): boolean => names.has(name)
  const kept = lines.filter(({ rule }) => !rule || !isTrapped(rule)).map(({ text }) => text)
  const base = { ...profile, syscalls: profile.syscalls?.filter(isTrapped) ?? [] }
  const { syscalls = [] } = compileOci({
    rules: traps,
    architectures: [],
    base,
    flags: [],
    listenerPath: '',
    metadata: '',
  })
  const own = syscalls.flatMap((rule) => rule.names.map((name) => [name, ...toWords(rule)].join(' ')))
  return `${['2', style, ...comments.map((line) => `# ${line}`), ...kept, '[all]', ...own].join('\n')}\n`
}

const toWords = ({ action, errnoRet, args }: OciRule): readonly string[] => [
  actionNames.get(action) ?? `errno ${errnoRet}`,
  ...(args ?? []).map(({ index, value, valueTwo = 0, op }) =>
    op === 'SCMP_CMP_MASKED_EQ' ? `[${index},${hex(valueTwo)},${op},${hex(value)}]` : `[${index},${hex(value)},${op}]`,
  ),
]

const hex = (value: number | bigint): string => `0x${value.toString(16)}`
