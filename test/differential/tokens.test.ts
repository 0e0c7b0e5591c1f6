import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FSCONFIG } from '../../src/abi/mount.ts'
import { delegations } from '../../src/policy/delegations.ts'
import { askedBy } from '../../src/syscalls/delegate.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { devicePrograms, execute, Host } from '../support/host.ts'
import { lacks, withReason } from '../support/skipped.ts'

/** Sequences of calls by which a bpffs is described and made: in a container, and by root that holds CAP_SYS_ADMIN alone. */

const cannot = missing('gcc', 'setpriv') ?? lacks('bpfTokens')
const CASES = Number(process.env.DIFFERENTIAL_CASES ?? 600)
const SEED = Number(process.env.DIFFERENTIAL_SEED ?? 1)
/** The fixture makes 32 calls. */
const STEPS = 32
/** The last file system of a run is mounted here, where its options show. */
const MOUNT = 'move_mount'

type Step =
  | { readonly call: 'set'; readonly option: string; readonly value: string }
  | { readonly call: 'flag'; readonly option: string }
  | { readonly call: 'create' | 'exclusive' | 'reconfigure' | 'fsmount' }

const [commands, maps, programs, attachments] = delegations.map(({ names, listable }) => ({
  listed: [...listable].slice(0, 3),
  all: names,
}))
const policy = {
  ...devicePrograms,
  devices: false,
  delegateCmds: new Set(commands!.listed),
  delegateMaps: new Set(maps!.listed),
  delegateProgs: new Set(programs!.listed),
  delegateAttachs: new Set(attachments!.listed),
}

/** Mostly what is listed, in all spellings; some of what is not, and nonsense. */
const setting: fc.Arbitrary<Step> = fc.integer({ min: 0, max: 3 }).chain((index) => {
  const { option, names } = delegations[index]!
  const { listed } = [commands, maps, programs, attachments][index]!
  const number = (name: string): string => `0x${(1n << BigInt(names.indexOf(name))).toString(16)}`
  const good = fc.constantFrom(...listed)
  const word = fc.oneof(
    { weight: 12, arbitrary: good },
    { weight: 3, arbitrary: good.map((name) => name.toUpperCase()) },
    { weight: 3, arbitrary: good.map(number) },
    { weight: 2, arbitrary: fc.constantFrom(...names) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        'any',
        'ANY',
        '0',
        '00',
        '+1',
        '-1',
        '0x',
        '010',
        '1x',
        'nonsense',
        '',
        '0xffffffffffffffff',
        '18446744073709551616',
      ),
    },
  )
  return fc
    .array(word, { minLength: 1, maxLength: 3 })
    .map((words): Step => ({ call: 'set', option, value: words.join(':') }))
})
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: setting },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Step>(
      { call: 'set', option: 'mode', value: '0700' },
      { call: 'set', option: 'mode', value: 'x' },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Step>(
      { call: 'set', option: 'unknown', value: '1' },
      { call: 'set', option: 'delegate_cmd', value: 'any' },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Step>({ call: 'flag', option: 'delegate_cmds' }, { call: 'flag', option: 'ro' }),
  },
  { weight: 3, arbitrary: fc.constant<Step>({ call: 'create' }) },
  { weight: 1, arbitrary: fc.constantFrom<Step>({ call: 'exclusive' }, { call: 'reconfigure' }, { call: 'fsmount' }) },
)
const sequence = fc
  .array(step, { minLength: 1, maxLength: 5 })
  .map((steps): readonly Step[] => [...steps, { call: 'create' }, { call: 'fsmount' }])

const COMMANDS = {
  create: FSCONFIG.CMD_CREATE,
  exclusive: FSCONFIG.CMD_CREATE_EXCL,
  reconfigure: FSCONFIG.CMD_RECONFIGURE,
}
function spelled(one: Step, context: number): string {
  if (one.call === 'set') return `fsconfig =${context} ${FSCONFIG.SET_STRING} s:${one.option} s:${one.value} 0`
  if (one.call === 'flag') return `fsconfig =${context} ${FSCONFIG.SET_FLAG} s:${one.option} null 0`
  return one.call === 'fsmount' ? `fsmount =${context} 0 0` : `fsconfig =${context} ${COMMANDS[one.call]} null null 0`
}

/** What is wanted to differ, each with its reason. */
const WANTED = {
  'not listed': 'the kernel refuses what the policy does not delegate',
  'delegates nothing': 'a bpffs that delegates nothing is left to the kernel, which makes none in a user namespace',
  EXCL: 'CMD_CREATE_EXCL is left to the kernel',
  'after fsmount': 'options for CMD_RECONFIGURE, which change nothing, are left to the kernel',
  follows: 'the file system was not made, as an earlier line says',
} as const
type Wanted = keyof typeof WANTED

/** What a container gets where root gets `native`: the same, or what is wanted. */
class Model {
  #recorded = false
  #state: 'open' | 'made' | 'lost' | 'mounted' = 'open'

  next(one: Step, native: string): readonly [expected: string, why?: Wanted] {
    if (this.#state === 'lost') {
      if (one.call === 'set' || one.call === 'flag')
        return native === 'EBUSY' ? ['EBUSY'] : [native === 'EINVAL' || native === 'ok' ? 'EBUSY' : native, 'follows']
      return one.call === 'fsmount' ? ['EINVAL', 'follows'] : ['EBUSY', 'follows']
    }
    if (native !== 'ok') return [native]
    if (one.call === 'set') return this.#set(askedBy([one.option, one.value]))
    if (one.call === 'fsmount') this.#state = 'mounted'
    if (one.call !== 'create' && one.call !== 'exclusive') return ['ok']
    const why: Wanted | undefined = one.call === 'exclusive' ? 'EXCL' : this.#recorded ? undefined : 'delegates nothing'
    this.#state = why ? 'lost' : 'made'
    return why ? ['EPERM', why] : ['ok']
  }

  #set(asked: ReturnType<typeof askedBy>): readonly [string, Wanted?] {
    if (!asked?.bits) return ['ok']
    if (this.#state === 'mounted') return ['EPERM', 'after fsmount']
    const { names, member } = delegations[asked.index]!
    const isListed = [...names.keys(), ...[60, 61, 62, 63]].every(
      (bit) => ((asked.bits! >> BigInt(bit)) & 1n) === 0n || policy[member].has(names[bit] ?? ''),
    )
    if (!isListed) return ['EPERM', 'not listed']
    this.#recorded = true
    return ['ok']
  }
}

interface Run {
  readonly sequences: readonly (readonly Step[])[]
  readonly words: readonly string[]
}
/** Packs sequences into runs of the fixture. */
function runsOf(sequences: readonly (readonly Step[])[]): readonly Run[] {
  const runs: (readonly Step[])[][] = [[]]
  for (const one of sequences) {
    const last = runs.at(-1)!
    const taken = last.reduce((sum, { length }) => sum + length + 1, 0)
    if (taken + one.length + 2 <= STEPS) last.push(one)
    else runs.push([one])
  }
  return runs.map((of) => {
    let at = 0
    const calls = of.flatMap((steps) => {
      const context = at
      at += steps.length + 1
      return ['@fsopen s:bpf 0', ...steps.map((one) => spelled(one, context))]
    })
    return { sequences: of, words: [...calls, `@${MOUNT} =${at - 1} s: -100 s:/mnt 4`].join(' , ').split(' ') }
  })
}

const SCRIPT = 'exec 2>/dev/null; "$@"; sed -n "s|.* /mnt .* - bpf ||p" /proc/self/mountinfo'
const within = (words: readonly string[]): readonly string[] => [
  '--mount',
  'sh',
  '-c',
  SCRIPT,
  'sh',
  fixture('call-steps'),
  ...words,
]
/** @returns what each call said, and the options of the last file system but its owner */
function parse(stdout: string): { readonly said: readonly string[]; readonly shown: string } {
  const [said = '', shown = ''] = stdout.split('\n')
  return { said: said.split(', '), shown: shown.replaceAll(/,?[ug]id=\d+/g, '') }
}

describe.skipIf(cannot)(withReason('a bpffs that delegates', cannot), () => {
  let host: Host
  beforeAll(async () => {
    host = await Host.start({ bpf: policy })
  })
  afterAll(() => host?.close())

  test(`${CASES} sequences end as for root with CAP_SYS_ADMIN, but for what is wanted`, async () => {
    const runs = runsOf(fc.sample(sequence, { numRuns: CASES, seed: SEED }))
    const counts = new Map<string, number>()
    const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1)
    for (const { sequences, words } of runs) {
      const alone = ['--bounding-set=-all,+sys_admin', '--inh-caps=-all', 'unshare']
      const native = parse((await execute('setpriv', [...alone, ...within(words)])).stdout)
      const ours = parse((await host.run(['--mounts'], ['unshare', ...within(words)])).stdout)
      let at = 0
      for (const steps of sequences) {
        const model = new Model()
        const rows = steps.map((one) => {
          const [theirs = 'nothing', result = 'nothing'] = [native.said[at], ours.said[at]]
          at++
          const [expected, why] = model.next(one, theirs)
          count(why ?? 'the same')
          if (
            result === 'ok' &&
            (one.call === 'create' || askedBy(['option' in one ? one.option : '', 'value' in one ? one.value : '']))
          )
            count('done')
          return { one, theirs, result, expected }
        })
        expect(rows.filter(({ result, expected }) => result !== expected).map((row) => ({ ...row, rows }))).toEqual([])
      }
      if (ours.shown)
        expect(
          ours.shown
            .split(/[ ,]/)
            .filter((word) => !native.shown.split(/[ ,]/).includes(word) && !word.startsWith('delegate_')),
        ).toEqual([])
      if (ours.shown) count('mounted')
    }
    console.log(
      [...counts].map(([what, times]) => `${times} times ${what}: ${WANTED[what as Wanted] ?? ''}`).join('\n'),
    )
    if (CASES >= 600) expect(counts.get('done')).toBeGreaterThan(300)
  }, 600_000)
})
