import { describe, expect, test } from 'vitest'
import { compare } from '../../../src/cli/run-differences.ts'

const FILE = '100644 0:0 0'
const DIRECTORY = '40755 0:0 0'
const [ID, OTHER] = ['a1b2'.repeat(16), 'c3d4'.repeat(16)]

/** Makes the report of a run: a path with a slash at its end is a directory. */
const ran = (paths: readonly string[], more: Readonly<Record<string, string>> = {}) => ({
  ...{ status: 0, used: [], refused: [], unnamed: 0 },
  written: {
    files: {
      ...Object.fromEntries(paths.map((path) => [path.replace(/\/$/, ''), path.endsWith('/') ? DIRECTORY : FILE])),
      ...more,
    },
    isWhole: true,
  },
})

describe('compare() of files', () => {
  test.each([
    { what: 'the same', old: ['/a'], now: ['/a'], is: {} },
    { what: 'below /tmp', old: ['/tmp/a'], now: ['/tmp/b'], is: {} },
    { what: 'a file fewer and one more', old: ['/a', '/b'], now: ['/a', '/c'], is: { missing: ['/b'], added: ['/c'] } },
    {
      what: 'words of one length',
      old: ['/success'],
      now: ['/failure'],
      is: { missing: ['/success'], added: ['/failure'] },
    },
    { what: 'short numbers', old: ['/x12345'], now: ['/y'], is: { missing: ['/x12345'], added: ['/y'] } },
    {
      what: 'a name at random',
      old: ['/s/', '/s/tmp.Ab3dE6'],
      now: ['/s/', '/s/tmp.Ab9dEx'],
      is: { renamed: { '/s/tmp.Ab3dE6': '/s/tmp.Ab9dEx' } },
    },
    { what: 'letters at random', old: ['/rAnDoM'], now: ['/oThErS'], is: { renamed: { '/rAnDoM': '/oThErS' } } },
    {
      what: 'a tree at random',
      old: ['/s/', `/s/${ID}/`, `/s/${ID}/diff/`, `/s/${ID}/diff/n`, `/s/${ID}/${ID}`],
      now: ['/s/', `/s/${OTHER}/`, `/s/${OTHER}/diff/`, `/s/${OTHER}/diff/n`, `/s/${OTHER}/${OTHER}`],
      is: { renamed: { [`/s/${ID}`]: `/s/${OTHER}` } },
    },
    {
      what: 'a tree at random that lacks something',
      old: [`/${ID}/`, `/${ID}/n`],
      now: [`/${OTHER}/`],
      is: { missing: [`/${ID}`, `/${ID}/n`], added: [`/${OTHER}`] },
    },
    {
      what: 'a tree at random with another name in it',
      old: [`/${ID}/`, `/${ID}/n`],
      now: [`/${OTHER}/`, `/${OTHER}/m`],
      is: { missing: [`/${ID}`, `/${ID}/n`], added: [`/${OTHER}`, `/${OTHER}/m`] },
    },
  ])('$what', ({ old, now, is }) => {
    const { missing, added, changed, renamed } = compare(ran(old), ran(now))
    expect({ missing, added, changed, renamed }).toEqual({ missing: [], added: [], changed: [], renamed: {}, ...is })
  })

  // Without a bound this takes minutes.
  test('tens of thousands of names at random, of which none are alike, are compared for a while', () => {
    const names = (end: string): readonly string[] => Array.from({ length: 30_000 }, (_, at) => `/${1e6 + at}a${end}`)
    const now = names('/').map((name) => name.replace('a', 'b'))
    expect(compare(ran(names('')), ran(now))).toMatchObject({ missing: names(''), renamed: {} })
  })

  test('names at random are told apart by what is there', () => {
    const [node, file] = ['20666 0:0 259', FILE]
    const first = ran([], { '/aaaaa1': node, '/aaaaa2': file })
    expect(compare(first, ran([], { '/bbbbb1': file, '/bbbbb2': node })).renamed).toEqual({
      '/aaaaa1': '/bbbbb2',
      '/aaaaa2': '/bbbbb1',
    })
    expect(compare(first, ran([], { '/bbbbb1': file, '/bbbbb2': file }))).toMatchObject({
      missing: ['/aaaaa1'],
      added: ['/bbbbb2'],
    })
  })
})
