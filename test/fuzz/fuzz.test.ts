import { afterAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { until } from '../support/host.ts'
import { Machine } from '../support/machine.ts'
import { hasRuntime, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'
import { type AttackOptions, attack, type Outcome } from './attack.ts'
import { isAsBefore, ProtocolFuzzer, weights } from './protocol.ts'
import { actShare, report } from './report.ts'

const TOOLS = ['gcc', 'crun', 'losetup', 'mkfs.ext2', 'mkfs.ext4', 'mksquashfs', 'getfattr'] as const
const cannot = unable() ?? missing(...TOOLS) ?? (process.arch === 'x64' ? undefined : 'its calls are those of x86_64')

/** Of both worlds, by seeds that follow each other: see below. */
const SHORT = { rounds: 2, seconds: 8 } as const
/** One attack is that long at most: each begins with a new container, and with the next seed. */
const ROUND_S = process.env.FUZZ_SECONDS === undefined ? SHORT.seconds : 60
/** More on demand: npm run fuzz. */
const seconds = Number(process.env.FUZZ_SECONDS ?? SHORT.rounds * SHORT.seconds)
const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000)
const PROTOCOL_S = Math.min(ROUND_S, Math.max(3, seconds / 5))
/** What an attack takes that is not the attack, on a busy machine. */
const SLACK_S = 150
/** What is said of a monitor's lies; any other error is one of ours. */
const LIES =
  /^Cannot serve a monitor of LXC: (the descriptors are not|it has \d+ bytes|more than \d+ bytes|\d+ bytes are too few|\d+ is no size|it did not wait)/
/** Of all calls that are made. */
const ACTS = 0.2

const runtimes = (['crun', 'runc'] as const).filter(hasRuntime)
/** The seed says all: in turn in a world of its own and in one that it shares, and with one runtime and the other. */
const attackOf = (one: number, long: number): AttackOptions => ({
  seed: one,
  world: one % 2 === 0 ? 'shared' : 'alone',
  runtime: runtimes[(one >> 1) % runtimes.length] ?? 'crun',
  seconds: long,
})
const rounds = Array.from({ length: Math.ceil(seconds / ROUND_S) }, (_, index) =>
  attackOf(seed + index, Math.min(ROUND_S, seconds - index * ROUND_S)),
)
/** What there must be of in a world that is shared. */
const busy = ({ beside, said }: Outcome): readonly number[] => [beside.started, said.met, said.stopped, said.through]
const again = (one: number, long: number): string => `to repeat it: npm run fuzz -- --seed ${one} --seconds ${long}`

describe.skipIf(cannot)(withReason('a hostile container', cannot), () => {
  test.each(rounds)(
    'seed $seed, for $seconds s, with $runtime, $world: it changes nothing outside, and the engine survives it',
    { timeout: (ROUND_S + SLACK_S) * 1000 },
    async (round) => {
      const how = again(round.seed, round.seconds)
      const outcome: Outcome = await attack(round).catch((error) => {
        console.log(how, error)
        throw new Error(how, { cause: error })
      })
      console.log(report(outcome), outcome.findings, outcome.complaints)
      const { findings, complaints, left, unseen, said, noted } = outcome
      const faults = noted.filter(({ reason }) => reason === 'fault')
      expect({ findings, complaints, left, unseen, faults, hung: said.hung }, how).toEqual({
        ...{ findings: [], complaints: [], left: [], unseen: [], faults: [], hung: 0 },
      })
      expect(actShare(outcome), how).toBeGreaterThan(ACTS)
      if (round.world === 'shared') expect(Math.min(...busy(outcome)), how).toBeGreaterThan(0)
    },
  )
})

const noCrun = cannot ?? (hasRuntime('crun') ? undefined : 'crun is missing')
describe.skipIf(noCrun)(withReason('hostile runtimes and monitors', noCrun), () => {
  let machine: Machine | undefined
  afterAll(() => machine?.close())

  test(`seed ${seed}, for ${PROTOCOL_S} s: the daemon goes on serving, and keeps nothing`, {
    timeout: (2 * PROTOCOL_S + SLACK_S) * 1000,
  }, async () => {
    fixture('filtered')
    machine = new Machine()
    await machine.serve()
    const fuzzer = await ProtocolFuzzer.start(machine, seed)
    const how = again(seed, seconds)
    try {
      await fuzzer.check()
      const before = weights(machine)
      await fuzzer.attack(PROTOCOL_S)
      await fuzzer.close()
      console.log(`seed ${seed}:`, fuzzer.counts, before, weights(machine))
      await until(how, () => isAsBefore(before, weights(machine!)), 10).catch(() =>
        expect(weights(machine!), how).toEqual(before),
      )
      const faults = machine.log.filter(({ level, message }) => level === 'error' && !LIES.test(String(message)))
      expect(faults, how).toEqual([])
    } finally {
      await fuzzer.close()
    }
  })
})
