import { expect, test } from 'vitest'
import type { ContainerView } from '../../../src/reader/container-fields.ts'
import { describeAmbiguity, earlierOf, findContainer, namesakesOf } from '../../../src/reader/container-view.ts'

const container = (id: string, name = '', state = 'served'): ContainerView => ({ id, name, state }) as ContainerView
const SHORT = '5288d75d3d2f'
const [A, B] = [SHORT.padEnd(64, 'a'), 'b'.repeat(64)] as const

test.each([
  { is: 'a name', all: [container(A, 'one'), container(B, 'two')], word: 'two', finds: [B] },
  { is: 'the beginning of an id', all: [container(A), container(B)], word: 'b', finds: [B] },
  { is: 'nothing', all: [container(A), container(B)], word: '', finds: [] },
  // A tenant has named a container of its own so.
  {
    is: 'a name like a short id',
    all: [container(A), container(B, '5288d75d3d2f')],
    word: '5288d75d3d2f',
    finds: [B, A],
  },
  {
    is: 'a name like the short id of a container that has ended',
    ...{ all: [container(B, '5288d75d3d2f'), container(A, '', 'ended')], word: '5288d75d3d2f', finds: [B, A] },
  },
  { is: 'a name like a whole id', all: [container(B, A), container(A)], word: A, finds: [A] },
  {
    is: 'a name like the whole id of a container that has ended',
    ...{ all: [container(B, A), container(A, '', 'ended')], word: A, finds: [A] },
  },
  {
    is: 'a name like the short id of a container that is forgotten',
    all: [container(B, SHORT)],
    word: SHORT,
    finds: [],
  },
  { is: 'a name like the whole id of a container that is forgotten', all: [container(B, A)], word: A, finds: [] },
  {
    is: 'a name, where ids of containers that have ended begin with it',
    all: [container('web-1', '', 'ended'), container('web-2', '', 'ended'), container(A, 'web')],
    ...{ word: 'web', finds: [A] },
  },
  {
    is: 'a name of one that has ended, like the beginning of the id of another',
    all: [container('web-1', '', 'ended'), container(A, 'web', 'ended')],
    ...{ word: 'web', finds: [A] },
  },
  {
    is: 'a name like the beginning of the id of a present container',
    all: [container('web-1'), container(A, 'web')],
    ...{ word: 'web', finds: [A, 'web-1'] },
  },
  {
    is: 'a name like the id of one that has ended, of LXC for instance',
    ...{ all: [container('web', '', 'ended'), container(A, 'web')], word: 'web', finds: [A] },
  },
  {
    is: 'a name like the id of a present one',
    all: [container('web'), container(A, 'web')],
    ...{ word: 'web', finds: ['web'] },
  },
  { is: 'two of one name', all: [container(A, 'x'), container(B, 'x')], word: 'x', finds: [A, B] },
  { is: 'the name of its own short id', all: [container(A, '5288d75d3d2f')], word: '5288d75d3d2f', finds: [A] },
  {
    is: 'the short id of a container that was started again',
    ...{ all: [container(A, 'x'), container(A, 'x', 'ended')], word: '5288', finds: [A] },
  },
  {
    is: 'the name of a container that was made again',
    ...{ all: [container(A, 'x'), container(B, 'x', 'ended')], word: 'x', finds: [A] },
  },
])('findContainer() of $is', ({ all, word, finds }) => {
  expect(findContainer(all, word).map(({ id }) => id)).toEqual(finds)
})

test.each([
  {
    found: [container(B, '5288'), container(A)],
    word: '5288',
    says: `Cannot tell which container "5288" is: it is the name of ${B} and the beginning of ${A}; give the whole id`,
  },
  {
    found: [container(A, 'x'), container(B, 'x')],
    word: 'x',
    says: `Cannot tell which container "x" is: it is the name of ${A}, ${B}; give the whole id`,
  },
  {
    found: 'abcdefg'.split('').map((end) => container(`c${end}`)),
    word: 'c',
    says: 'Cannot tell which container "c" is: ca, cb, cc, cd, ce and 2 more begin with it; give more of its id',
  },
])('describeAmbiguity() says $says', ({ found, word, says }) => {
  expect(describeAmbiguity(found, word)).toBe(says)
})

test('a word that is taken as an id may be the name of others, which are told', () => {
  const all = [container('web'), container(A, 'web'), container(B, 'web', 'ended')]
  expect(namesakesOf(all, 'web').map(({ id }) => id)).toEqual([A])
})

test('a container has those before it that had its name, or its id', () => {
  const all = [
    container(A, 'x', 'ended'),
    container(B, 'x', 'ended'),
    container('c', 'y', 'ended'),
    container(A, 'x'),
    container('d', 'x'),
  ]
  expect(earlierOf(all, all[3]!, 'x')).toEqual([all[0], all[1]])
  expect(earlierOf(all, all[3]!, A.slice(0, 12))).toEqual([all[0]])
})

test('who has the id of another one as a name comes not before it', () => {
  const word = A.slice(0, 12)
  const all = [container(A), container(B, word, 'ended'), container('d', 'e', 'ended'), container('e')]
  expect(earlierOf(all, all[0]!, word)).toEqual([])
  expect(earlierOf(all, all[3]!, 'e')).toEqual([])
})
