// The device rules of a container are known by its first call, and for all devices of its policy: a first call costs what a
// second one does.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Group, withoutCgroups } from '../../support/bpf-world.ts'
import { fixture } from '../../support/fixtures.ts'
import { Host } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const why = withoutCgroups()
/** A process that joins the groups and tries takes as long as 20 to 40 calls, with other load more. */
const ROUNDS = 9
const WIDE = 10

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!

describe.skipIf(why)(withReason('a new container in a cgroup of v2', why), () => {
  let host: Host
  beforeAll(async () => {
    host = await Host.start()
  })
  afterAll(() => host.close())

  /** @returns how long each call took, in microseconds */
  async function times(script: string): Promise<readonly number[]> {
    const group = new Group()
    const { stdout } = await host.run(['--cgroup', group.path], ['sh', '-c', `${script}; true`])
    writeFileSync(`${group.path}/cgroup.kill`, '1')
    await group.remove()
    const said = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { medianNs: number; errors: object })
    expect(said.map(({ errors }) => errors)).toEqual(said.map(() => ({})))
    return said.map(({ medianNs }) => medianNs / 1000)
  }
  const make = (device: string): string =>
    `${fixture('mknod-loop')} --count 1 --warmup 0 --device ${device} ${join(host.directory, 'n')}`

  test('makes its first device, and the first of each other kind, as fast as a second one', async () => {
    const rounds: (readonly number[])[] = []
    await times(make('1:3'))
    for (let round = 0; round < ROUNDS; round++)
      rounds.push(await times(['sleep 0.3', make('1:3'), make('1:3'), make('1:5')].join('; ')))
    const [first, second, other] = [0, 1, 2].map((at) => median(rounds.map((calls) => calls[at]!)))
    console.log(`first ${first} us, second ${second} us, of another device ${other} us`)
    expect(first! / second!).toBeLessThan(WIDE)
    expect(other! / second!).toBeLessThan(WIDE)
  })
})
