// Makes the base profiles of src/filter/bases/ from the rules that container engines publish: USAGE says how.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const USAGE = `usage: node scripts/seccomp-bases.js NAME VERSION COMMIT DATE FILE...

Prints the base profile NAME. The files are those of the engine's repository at that commit:

  containerd  contrib/seccomp/seccomp_default.go
  cri-o       vendor/go.podman.io/common/pkg/seccomp/seccomp.json internal/config/seccomp/seccomp.go
`

/** The architectures on which Intercede runs, as Go spells them; rules for others are left out. */
const ARCHES = ['amd64', 'arm64']
const NATIVE = ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64']

/** The values of the constants that the rules name. */
const CONSTANTS = {
  ...{ AF_ALG: 38, AF_VSOCK: 40, EPERM: 1, ENOSYS: 38 },
  ...{ CLONE_NEWNS: 0x20000, CLONE_NEWCGROUP: 0x2000000, CLONE_NEWUTS: 0x4000000, CLONE_NEWIPC: 0x8000000 },
  ...{ CLONE_NEWUSER: 0x10000000, CLONE_NEWPID: 0x20000000, CLONE_NEWNET: 0x40000000 },
  ...{ ActAllow: 'SCMP_ACT_ALLOW', ActErrno: 'SCMP_ACT_ERRNO' },
  ...{ OpEqualTo: 'SCMP_CMP_EQ', OpNotEqual: 'SCMP_CMP_NE', OpLessThan: 'SCMP_CMP_LT' },
  ...{ OpGreaterThan: 'SCMP_CMP_GT', OpMaskedEqual: 'SCMP_CMP_MASKED_EQ' },
  // A pointer to ENOSYS in containerd; the first argument of clone(2) in CRI-O, except on s390.
  ...{ nosys: 38, flagsIndex: 0 },
}

const TOKEN = /\s+|\/\/.*|"[^"]*"|\w[\w.]*|[{}[\]:,|+&*()]/y

/**
 * Reads the composite literal of Go that begins at an offset: lists and objects, of texts, numbers and constants.
 *
 * @throws {Error} if it has anything else
 */
function literal(text, offset) {
  const next = () => {
    for (;;) {
      TOKEN.lastIndex = offset
      const [token] = TOKEN.exec(text) ?? []
      if (token === undefined)
        throw new Error(`Cannot read the rules: ${JSON.stringify(text.slice(offset, offset + 40))}`)
      offset += token.length
      if (token.trim() !== '' && !token.startsWith('//')) return token
    }
  }
  const atom = (token) => {
    if (token.startsWith('"')) return token.slice(1, -1)
    if (/^\d/.test(token)) return Number(token)
    const name = token.replace(/^\w+\./, '')
    if (!Object.hasOwn(CONSTANTS, name)) throw new Error(`Cannot read the rules: unknown constant ${token}`)
    return CONSTANTS[name]
  }
  /** Reads a value, of which `token` is the first one. Returns it and the token behind it. */
  const value = (token) => {
    while (
      token !== '{' &&
      /^[&*[\]]$|^(?:\w+\.)?(?:LinuxSyscall|Syscall|LinuxSeccompArg|Arg|Filter|string)$/.test(token)
    )
      token = next()
    if (token === '{') return [members(), next()]
    let sum = atom(token)
    for (token = next(); token === '|' || token === '+'; token = next())
      sum = token === '|' ? sum | atom(next()) : sum + atom(next())
    return [sum, token]
  }
  const members = () => {
    const list = []
    const object = {}
    for (let token = next(); token !== '}'; ) {
      const key = /^[A-Z]\w*$/.test(token) ? token : undefined
      const [item, behind] = key && next() === ':' ? value(next()) : value(token)
      if (key) object[key] = item
      else list.push(item)
      token = behind === ',' ? next() : behind
    }
    return Object.keys(object).length > 0 ? object : list
  }
  return value(next())[0]
}

/** Makes a rule of our format from a literal, whose members containerd and CRI-O call the same. */
function rule({ Name, Names, Action, Args = [], ErrnoRet, Errno, Includes, Excludes }) {
  return {
    names: Names ?? [Name],
    action: Action,
    errnoRet: ErrnoRet ?? (Errno && CONSTANTS[Errno]),
    args: Args.map(({ Index, Value, ValueTwo, Op }) => ({ index: Index, value: Value, valueTwo: ValueTwo, op: Op })),
    includes: { caps: Includes?.Caps },
    excludes: { caps: Excludes?.Caps },
  }
}

const words = (line) => [...line.matchAll(/"([^"]*)"/g)].map(([, word]) => word)
const isCap = (word) => word.startsWith('CAP_')

/**
 * Says what a line of containerd's function requires of the lines below it, which are further in.
 *
 * @param cases the words of earlier cases of the same switch
 */
function guardOf(line, cases) {
  const kernel = /KernelVersion\{Kernel: (\d+), Major: (\d+)\}/.exec(line)
  if (kernel) return { includes: { minKernel: `${kernel[1]}.${kernel[2]}` } }
  if (/^if !admin \{$/.test(line)) return { excludes: { caps: ['CAP_SYS_ADMIN'] } }
  if (/^default:$/.test(line)) return { excludes: { arches: cases } }
  if (/^case /.test(line)) return { includes: { [words(line).every(isCap) ? 'caps' : 'arches']: words(line) } }
  if (/^if /.test(line) && line !== 'if ok {') throw new Error(`Cannot read the rules: unknown condition ${line}`)
  return {}
}

const merge = (guards) => ({
  includes: Object.assign({}, ...guards.map(({ includes }) => includes)),
  excludes: Object.assign({}, ...guards.map(({ excludes }) => excludes)),
})

/** Reads containerd's function, which adds rules under conditions; gofmt indents what a condition holds for. */
function containerdRules(go) {
  const text = go.slice(go.indexOf('func DefaultProfile')).replace(/GreaterEqualThan\(\s+/g, 'GreaterEqualThan(')
  const rules = []
  const guards = []
  const cases = []
  let offset = 0
  for (const line of text.split('\n')) {
    const depth = /^\t*/.exec(line)[0].length
    const said = line.trim()
    offset += line.length + 1
    if (said === '') continue
    if (/^switch /.test(said)) cases[depth] = []
    guards.length = Math.min(guards.length, depth)
    guards[depth] = guardOf(said, cases[depth] ?? [])
    if (/^case /.test(said)) cases[depth].push(...words(said))
    const [begin] = /\[\]specs\.LinuxSyscall\{$|(?<=append\(s\.Syscalls, )specs\.LinuxSyscall\{$/.exec(line) ?? []
    if (begin === undefined) continue
    const found = literal(text, offset - 1 - begin.length)
    const around = merge(guards.filter(Boolean))
    for (const each of Array.isArray(found) ? found : [found]) rules.push({ ...rule(each), ...around })
  }
  return rules
}

const containerdArches = (go) =>
  ARCHES.map((arch, index) => {
    const [, list] = new RegExp(`case "${arch}":\\n\\t\\treturn \\[\\]specs.Arch\\{(.*)\\}`).exec(go)
    const all = list.split(', ').map((name) => name.replace('specs.Arch', 'SCMP_ARCH_'))
    return { architecture: NATIVE[index], subArchitectures: all.filter((name) => name !== NATIVE[index]) }
  })

/** Changes the profile of containers/common as CRI-O's function does: takes calls out of its list, and adds rules. */
function crioRules(stock, go) {
  const begin = go.indexOf('func DefaultProfile')
  const text = go.slice(begin, go.indexOf('\n}\n', begin))
  const removed = [...text.matchAll(/^\t+\{"(\w+)", (\d+), \d+\},$/gm)].map(([, name, at]) => ({
    name,
    at: Number(at),
  }))
  const added = [...text.matchAll(/&seccomp\.Syscall\{/g)].map(({ index }) => rule(literal(text, index)))
  const kept = stock.map((each, at) => {
    const gone = removed.filter((one) => one.at === at).map(({ name }) => name)
    if (gone.some((name) => !each.names.includes(name))) throw new Error(`Cannot take ${gone} out of rule ${at}`)
    return { ...each, names: each.names.filter((name) => !gone.includes(name)) }
  })
  return [...kept, ...added]
}

/** Leaves out empty members, and other architectures; undefined if the rule is for them alone. */
function tidy({ names, action, errnoRet, args, includes, excludes }) {
  const ours = ({ arches, ...rest } = {}) => ({ ...rest, arches: arches?.filter((arch) => ARCHES.includes(arch)) })
  const [within, without] = [ours(includes), ours(excludes)]
  if (includes?.arches?.length > 0 && within.arches.length === 0) return undefined
  if (within.arches?.length === ARCHES.length) delete within.arches
  const filled = (object) => {
    const entries = Object.entries(object).filter(([, value]) => value !== undefined && value.length !== 0)
    return entries.length > 0 ? Object.fromEntries(entries) : undefined
  }
  const conditions = args?.map(({ index, value, valueTwo, op }) => ({
    ...{ index, value },
    ...(op === 'SCMP_CMP_MASKED_EQ' ? { valueTwo } : {}),
    op,
  }))
  return {
    ...{ names, action },
    ...(errnoRet === undefined ? {} : { errnoRet }),
    ...(conditions?.length > 0 ? { args: conditions } : {}),
    ...filled({ includes: filled(within), excludes: filled(without) }),
  }
}

/** Each engine: its repository, the capabilities of its containers that ask for none, and its profile. */
const ENGINES = {
  containerd: {
    repository: 'https://github.com/containerd/containerd',
    files: ['contrib/seccomp/seccomp_default.go'],
    // pkg/oci/spec.go defaultUnixCaps()
    caps: 'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE',
    profile: (go) => ({
      defaultAction: 'SCMP_ACT_ERRNO',
      archMap: containerdArches(go),
      syscalls: containerdRules(go),
    }),
  },
  'cri-o': {
    repository: 'https://github.com/cri-o/cri-o',
    files: ['vendor/go.podman.io/common/pkg/seccomp/seccomp.json', 'internal/config/seccomp/seccomp.go'],
    // internal/config/capabilities/capabilities_linux.go Default()
    caps: 'CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL',
    profile(json, go) {
      const { defaultAction, defaultErrnoRet, archMap, syscalls } = JSON.parse(json)
      return {
        ...{ defaultAction, defaultErrnoRet },
        archMap: archMap.filter(({ architecture }) => NATIVE.includes(architecture)),
        syscalls: crioRules(syscalls, go),
      }
    },
  },
}

const sha256 = (text) => createHash('sha256').update(text).digest('hex')

/**
 * Makes a base profile.
 *
 * @param {keyof typeof ENGINES} name
 * @param {{ version: string, commit: string, date: string }} release which the texts are of
 * @param {readonly string[]} texts of the files that USAGE lists
 */
export function baseProfile(name, release, texts) {
  const { repository, files, caps, profile } = ENGINES[name]
  const { syscalls, ...rest } = profile(...texts)
  return {
    source: { repository, ...release, files: Object.fromEntries(files.map((file, at) => [file, sha256(texts[at])])) },
    caps: caps.split(' '),
    ...rest,
    syscalls: syscalls.map(tidy).filter(Boolean),
  }
}

/** Formats it with a line for each rule. */
function format({ source, syscalls, ...rest }) {
  const lines = Object.entries(rest).map(([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)},\n`)
  const indented = JSON.stringify(source, undefined, 2).replaceAll('\n', '\n  ')
  const rules = syscalls.map((each) => `    ${JSON.stringify(each)}`).join(',\n')
  return `{\n  "source": ${indented},\n${lines.join('')}  "syscalls": [\n${rules}\n  ]\n}\n`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [name, version, commit, date, ...paths] = process.argv.slice(2)
  if (!Object.hasOwn(ENGINES, name ?? '') || paths.length !== ENGINES[name].files.length) {
    process.stderr.write(USAGE)
    process.exit(2)
  }
  const texts = paths.map((path) => readFileSync(path, 'utf8'))
  process.stdout.write(format(baseProfile(name, { version, commit, date }, texts)))
}
