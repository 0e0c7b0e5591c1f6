import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  PROGRAMS_PER_CONTAINER,
  STARTING,
  STARTING_PER_CONTAINER,
  WAITING,
  WAITING_PER_CONTAINER,
} from '../../../../src/engine/execs/container-execs.ts'
import { ENTRIES_PER_CONTAINER } from '../../../../src/engine/kept/fs-context-store.ts'
import { LIMIT as FDS, LIMIT_PER_CONTAINER as FDS_PER_CONTAINER } from '../../../../src/keeper/persist/fd-store.ts'
import {
  CONTAINERS,
  LISTENERS,
  leavesRoom,
  MOUNTERS,
  MOUNTERS_PER_CONTAINER,
  OWN_LISTENERS,
  poolShare,
  SHARED_LISTENERS,
} from '../../../../src/link/limits.ts'
import { ENTRIES } from '../../../../src/link/persistent-layout.ts'
import { LIMITS } from '../../../../src/policy/limits.ts'

test.each([
  { taken: 0, share: 2 },
  { taken: 3, share: 2 },
  { taken: 4, share: 1 },
  { taken: 8, share: 1 },
])('poolShare() of eight with $taken taken: $share', ({ taken, share }) => expect(poolShare(taken, 8, 2)).toBe(share))

/** How many each of a row of containers gets that take what they can, one after the other, as long as there is any. */
function greedy(all: number, mayTake: (mine: number, taken: number) => boolean): readonly number[] {
  const got: number[] = []
  for (let taken = 0; taken < all; ) {
    let mine = 0
    for (; taken < all && mayTake(mine, taken); taken++) mine++
    if (mine === 0) break
    got.push(mine)
  }
  return got
}
const sharing = (all: number, most: number) => greedy(all, (mine, taken) => mine < poolShare(taken, all, most))

const page = readFileSync(new URL('../../../../docs/guide/threat-model.md', import.meta.url), 'utf8')
/** The cells of a row of the page's table of limits. */
const row = (what: string): string => page.split('\n').find((line) => line.startsWith(`| ${what} |`)) ?? ''
const english = (count: number): string => count.toLocaleString('en-US')

describe('what one container gets leaves room for all others', () => {
  test.each([
    { what: 'calls being served', all: LIMITS.calls.usually, most: LIMITS.callsPerContainer.usually, containers: 20 },
    { what: 'FUSE programs starting', all: STARTING, most: STARTING_PER_CONTAINER, containers: 5 },
    { what: 'mounters', all: MOUNTERS, most: MOUNTERS_PER_CONTAINER, containers: 6 },
  ])('$what: $most of $all, and $containers containers get some', ({ what, all, most, containers }) => {
    const got = sharing(all, most)
    expect(Math.max(...got)).toBe(most)
    expect(most).toBeLessThanOrEqual(all / 2)
    expect(got.length).toBeGreaterThanOrEqual(containers)
    expect(row(what)).toMatch(new RegExp(`^\\| ${what} \\| ${all}\\b.* \\| ${most}\\b.*; 1 once`))
  })

  /** Where all is taken, who has most gives something to who has least, or the rest has its own. */
  test.each([
    { what: 'FUSE programs waiting for their turn', all: WAITING, most: WAITING_PER_CONTAINER },
    { what: 'contexts and mounts in use (fsopen, fsmount)', all: ENTRIES, most: ENTRIES_PER_CONTAINER },
    { what: 'descriptors kept for the next engine', all: FDS, most: FDS_PER_CONTAINER },
  ])('$what: $most of $all', ({ what, all, most }) => {
    expect(most).toBeLessThanOrEqual(all / 4)
    expect(row(what)).toContain(`| ${what} | ${english(all)}`)
    expect(row(what)).toMatch(new RegExp(`\\| ${most}\\b`))
  })

  test('listeners: every container has its own, and of the others each leaves three quarters', () => {
    const got = greedy(SHARED_LISTENERS, (mine, taken) => leavesRoom(mine, SHARED_LISTENERS - taken))
    expect(Math.max(...got)).toBeLessThan(SHARED_LISTENERS / 4)
    expect(got.length).toBeGreaterThan(20)
    expect(OWN_LISTENERS * CONTAINERS + SHARED_LISTENERS).toBe(LISTENERS)
    expect(LIMITS.listenersPerContainer.usually).toBeLessThanOrEqual(OWN_LISTENERS + got[0]!)
    // A container's programs leave room for what the host executes in it.
    expect(PROGRAMS_PER_CONTAINER).toBeLessThanOrEqual(LIMITS.listenersPerContainer.usually / 4)
    expect(row('listeners')).toContain(
      `${english(LISTENERS)}, of which ${english(OWN_LISTENERS * CONTAINERS)} are reserved`,
    )
    expect(row('listeners')).toContain(`${LIMITS.listenersPerContainer.usually} (\`listenersPerContainer\`)`)
    expect(row('FUSE programs, starting and serving')).toContain(`| ${PROGRAMS_PER_CONTAINER} |`)
  })
})
