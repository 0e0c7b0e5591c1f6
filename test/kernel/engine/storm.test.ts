import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { BASE, execute, Host, mknodPolicy, USERNS, until } from '../../support/host.ts'

const ROUNDS = 5
const MOST_ROUNDS = 3 * ROUNDS
const COUNT = 300
/** In microseconds: no call of the storm is answered before it. */
const PERIOD = 300
/** Until the storm has used up what costs it nothing. */
const WARM_MS = 600
/** Mounters make a container's nodes in memory after the first 1,024, which takes milliseconds: that is no storm. */
const CALLS = ['--call', 'setxattr']
/** Without a signal: all its threads always have a call that waits. */
const BUSY = ['--threads', '8', '--period', '0']
/** There were 9 to 31: a look whether more calls wait took the turn of the other one. */
const TURNS_FOR_ONE = 8
/** Fewer were no storm. */
const TURNS_AT_LEAST = 0.3
/** It is below 1, and was up to 3 before there was a rate for cancelled calls (`ReplyCache`); a busy machine doubles it. */
const MORE_THAN_WITH_FLAG = 3

let host: Host
/** A file system whose own time does not depend on what else is in it. */
let place: string
let drained: NodeJS.Timeout
let serial = 0

beforeAll(async () => {
  host = await Host.start({ ...mknodPolicy, setxattr: { allowed: new Set<string>(), read: false } })
  place = join(host.directory, 'place')
  mkdirSync(place)
  await execute('mount', ['-t', 'tmpfs', '-o', `uid=${BASE}`, 'intercede-test', place])
  drained = setInterval(() => host.drain(), 50)
})
afterAll(async () => {
  clearInterval(drained)
  // The engine may still look at a directory of a container that was killed.
  await execute('umount', ['--lazy', place])
  host.close()
})

/** The median of the calls of a container that does nothing unusual, in microseconds. */
async function measure(): Promise<number> {
  // A call that is never answered shall fail the test, and say so.
  const loop = ['timeout', '-s', 'KILL', '30', fixture('mknod-loop'), '--count', String(COUNT), join(place, 'n')]
  const { status, stdout, stderr } = await host.run([], loop)
  if (status !== 0) throw new Error(`Another container was not served: ${status} ${stderr}`)
  const { medianNs, errors } = JSON.parse(stdout) as { readonly medianNs: number; readonly errors: object }
  expect(errors).toEqual({})
  return medianNs / 1000
}

/**
 * The same beside a container whose threads do nothing but calls, and are sent a signal all the time.
 *
 * @param options of the fixture `filtered` @param how options of the fixture `signalled`
 */
async function beside<T>(options: readonly string[], how: readonly string[], look: () => Promise<T>): Promise<T> {
  const directory = join(place, `storm${serial++}`)
  mkdirSync(directory)
  chownSync(directory, BASE, BASE)
  const calls = [fixture('signalled'), ...CALLS, ...how, '--count', '1000000000', directory]
  const before = host.records.length
  const storm = spawn(fixture('filtered'), [
    host.socket,
    '--userns',
    USERNS,
    '--xattr',
    '--await-agent',
    ...options,
    '--',
    ...calls,
  ])
  try {
    await until('the storm has come up', () => host.records.length > before + 10)
    await new Promise((resolve) => setTimeout(resolve, WARM_MS))
    return await look()
  } finally {
    storm.kill('SIGKILL')
    await once(storm, 'exit')
  }
}

const besideStorm = (options: readonly string[]): Promise<number> =>
  beside(options, ['--threads', '2', '--period', String(PERIOD)], measure)

/** For each call of a container that does nothing unusual, the calls of the other one that were served meanwhile. */
async function turnsForOne(): Promise<number> {
  host.drain()
  const other = host.records.at(-1)!.container
  const before = host.records.length
  await measure()
  host.drain()
  const served = host.records.slice(before).map(({ container }) => container !== other)
  const meanwhile = served.slice(served.indexOf(true), served.lastIndexOf(true))
  return meanwhile.filter((own) => !own).length / COUNT
}

const median = (of: readonly number[]): number => of.toSorted((a, b) => a - b)[Math.trunc(of.length / 2)]!

test('a container that cancels its own calls all the time keeps others waiting no longer than one that cannot', async () => {
  const all = { alone: [] as number[], flag: [] as number[], without: [] as number[] }
  const isEnough = (): boolean => median(all.without) < MORE_THAN_WITH_FLAG * median(all.flag)
  // What else the machine does may hit one of the three.
  for (let round = 0; round < ROUNDS || (round < MOST_ROUNDS && !isEnough()); round++) {
    all.alone.push(await measure())
    all.flag.push(await besideStorm([]))
    all.without.push(await besideStorm(['--no-killable']))
  }
  const [alone, flag, without] = [median(all.alone), median(all.flag), median(all.without)]
  const times = (us: number): string => `${us.toFixed(0)} us (x ${(us / alone).toFixed(2)})`
  console.log(
    `alone ${alone.toFixed(0)} us, beside a storm ${times(flag)}, without WAIT_KILLABLE_RECV ${times(without)}`,
  )
  expect(without).toBeLessThan(MORE_THAN_WITH_FLAG * flag)
}, 120_000)

test('a container with more calls than can be served takes no turn of another one', async () => {
  const turns: number[] = []
  for (let round = 0; round < ROUNDS; round++) turns.push(await beside([], BUSY, turnsForOne))
  console.log(`calls of the other one for each of this one: ${turns.map((each) => each.toFixed(1)).join(', ')}`)
  expect(median(turns)).toBeLessThan(TURNS_FOR_ONE)
  expect(median(turns)).toBeGreaterThan(TURNS_AT_LEAST)
}, 120_000)
