import { expect, test } from 'vitest'
import type { ContainerView } from '../../../src/reader/container-fields.ts'
import { joinOutlived } from '../../../src/reader/container-view.ts'

interface Sample {
  readonly id?: string
  readonly name?: string
  readonly state?: ContainerView['state']
  readonly pid?: number
  readonly since?: number
  readonly started?: number
  readonly ended?: number
  readonly stray?: boolean
  /** Until when its calls were counted. */
  readonly until?: number
  /** The time of its only refusal. */
  readonly at: number
}

function sample({
  id = 'web',
  name = '',
  state = 'served',
  pid = 7,
  at,
  stray = false,
  until,
  ...times
}: Sample): ContainerView {
  const refusals = [{ time: at, call: `call ${at}` }]
  const counts = { calls: 2, done: 1, left: 1, errors: 0, gone: 0, droppedRefusals: 0 }
  const about = { ...times, ...(stray ? { barred: { code: 'unknownContainer' } } : {}) }
  return { id, name, state, pid, about, refusals, countedUntil: until, ...counts } as unknown as ContainerView
}

const brief = (views: readonly ContainerView[]): readonly string[] =>
  joinOutlived(views).map(
    ({ id, name, state, left, refusals }) =>
      `${id}/${name} ${state} ${left}: ${refusals.map(({ time }) => time).join()}`,
  )

test.each([
  {
    of: "LXC that the daemon serves again, beside what the daemon before it wrote, is one container with both's refusals",
    all: [sample({ at: 20 }), sample({ state: 'unserved', at: 10, started: 5 })],
    are: ['web/ served 2: 20,10'],
  },
  {
    of: 'LXC that has ended since is one container, too',
    all: [sample({ state: 'ended', at: 10, started: 5 }), sample({ state: 'ended', at: 20, started: 5 })],
    are: ['web/ ended 2: 20,10'],
  },
  {
    of: 'a container that was started again are two',
    all: [sample({ pid: 9, at: 20 }), sample({ state: 'ended', at: 10, started: 5 })],
    are: ['web/ served 1: 20', 'web/ ended 1: 10'],
  },
  {
    of: 'a process number that was used again are two',
    all: [sample({ state: 'ended', at: 10, started: 5 }), sample({ state: 'ended', at: 20, started: 6 })],
    are: ['web/ ended 1: 10', 'web/ ended 1: 20'],
  },
  {
    of: 'what is executed in a container that nobody serves is a part of that',
    all: [
      sample({ state: 'left', pid: 0, stray: true, at: 20 }),
      sample({ name: 'one', state: 'unserved', since: 1, at: 10 }),
    ],
    are: ['web/one unserved 2: 20,10'],
  },
  {
    of: 'what was executed before the container was started again is a part of the one before',
    all: [
      sample({ name: 'one', pid: 9, at: 30 }),
      sample({ name: 'one', state: 'ended', since: 1, at: 10 }),
      sample({ state: 'ended', pid: 0, stray: true, since: 2, at: 20 }),
    ],
    are: ['web/one served 1: 30', 'web/one ended 2: 20,10'],
  },
  {
    of: 'what was executed in a container of which history has nothing stays',
    all: [sample({ id: 'other', at: 1 }), sample({ state: 'ended', pid: 0, stray: true, since: 2, at: 20 })],
    are: ['other/ served 1: 1', 'web/ ended 1: 20'],
  },
  {
    of: 'what is executed again and again in such a container is one row',
    all: [
      sample({ state: 'left', pid: 0, stray: true, at: 30 }),
      ...[1, 2].map((since) => sample({ state: 'ended', pid: 0, stray: true, since, at: 10 * since })),
    ],
    are: ['web/ left 3: 30,20,10'],
  },
])('the views $of', ({ all, are }) => {
  expect(brief(all)).toEqual(are)
})

test.each([
  {
    of: 'a daemon has again are not known between the last line of the one before and its first call',
    all: [sample({ at: 30, since: 20 }), sample({ state: 'unserved', at: 10, until: 12 })],
    between: [12, 20],
  },
  {
    of: 'two daemons have had before are not known between the first gap and the last',
    all: [
      sample({ at: 50, since: 40 }),
      sample({ state: 'unserved', at: 10, until: 12 }),
      sample({ state: 'unserved', since: 20, at: 30, until: 32 }),
    ],
    between: [12, 40],
  },
  {
    of: 'the next daemon has had to their end are not known between the same',
    all: [
      sample({ state: 'ended', at: 10, until: 12, started: 5 }),
      sample({ state: 'ended', at: 30, since: 20, started: 5 }),
    ],
    between: [12, 20],
  },
  {
    of: 'nobody has again are not known after the last line, or the last of what was executed in it',
    all: [
      sample({ state: 'unserved', since: 1, at: 10, until: 12 }),
      sample({ state: 'unserved', since: 2, at: 20, until: 22 }),
      sample({ state: 'ended', pid: 0, stray: true, since: 24, at: 25 }),
    ],
    between: [25, undefined],
  },
])('calls that $of', ({ all, between }) => {
  expect(joinOutlived(all).map(({ countedUntil, countedAgain }) => [countedUntil, countedAgain])).toEqual([between])
})

test('a container that outlived its daemon ended no earlier than what was executed in it, and its last refusal', () => {
  const kept = sample({ state: 'ended', since: 1, ended: 5, at: 4 })
  const endOf = (more: ContainerView): unknown => joinOutlived([more, kept])[0]!.about.ended
  expect(endOf(sample({ state: 'ended', pid: 0, stray: true, since: 6, ended: 9, at: 8 }))).toBe(9)
  expect(endOf(sample({ state: 'left', pid: 0, stray: true, since: 6, at: 8 }))).toBe(8)
})
