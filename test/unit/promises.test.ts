import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { COMMANDS, flaws, pageOf, readPromises } from '../support/promises.ts'
import { sentencesOfHelp, sentencesOfPage } from '../support/sentences.ts'

const root = new URL('../../', import.meta.url).pathname
const lists = join(root, 'test/promises')
const read = (name: string): string => readFileSync(join(root, name), 'utf8')

/** Pages with checks of their own, or that say only why something was done; and that of the bench, which is measured anew. */
const OTHERS = /^docs\/(decisions\/|glossary\.md|performance\.md|reasons\.md)/
const pages = ['README.md', ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map(below)]
  .filter((name) => name.endsWith('.md') && !OTHERS.test(name))
  .sort()

function below(name: string): string {
  return `docs/${name}`
}

describe('each sentence has a test that keeps it, or a reason why none does', () => {
  test.each(pages)('%s', (page) => {
    expect(flaws(pageOf(page, sentencesOfPage(read(page)), page.replace(/\.md$/, '')))).toEqual([])
  })

  test('no list is of a page that there is no more', () => {
    const names = readdirSync(lists, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.txt'))
    const known = [
      ...pages.map((page) => page.replace(/\.md$/, '')),
      ...COMMANDS.map((one) => `help/${one || 'intercede'}`),
    ]
    expect(names.map((name) => name.replace(/\.txt$/, '')).sort()).toEqual(known.sort())
  })
})

describe('a page and its list', () => {
  const page = sentencesOfPage(
    [
      '# Title\n\nIt is `a. b`. See [the other](x.md#y)! **No (...) end.** Linux 6.15 is\nnew (which is good.) So',
      '\n```\nNot this. Nor this.\n```\n\n- An entry,\n  wrapped; and more\n- another\n\n| a | b |\n| --- | --- |',
      '| one | two. Three. |\n\nLines:\n\n    of code.\n    more code.\n\n<!-- nothing -->\n',
    ].join('\n'),
  )

  test('sentences are cut from paragraphs, lists and tables, not from code', () => {
    expect(page).toEqual([
      'It is `a. b`.',
      'See the other!',
      'No (...) end.',
      'Linux 6.15 is new (which is good.)',
      'So',
      'An entry, wrapped; and more',
      'another',
      'one | two. Three.',
      'Lines:',
    ])
  })

  test('of a help text a line is one, with what was wrapped below it', () => {
    const help =
      'Usage: x\n\nWhat it is\nfor. More.\n\nOptions:\n  --one <x>            the\n                       first\n\nIt ends.\n'
    expect(sentencesOfHelp(help)).toEqual(['What it is for.', 'More.', '--one <x> the first', 'It ends.'])
  })

  test('several sentences may share what keeps them', () => {
    expect(readPromises('One.\nTwo.\n  test/a.test.ts: it: does\n  no test: kernel (old ones)\n\nThree.\n')).toEqual([
      ...['One.', 'Two.'].map((sentence) => ({
        sentence,
        keepers: [
          { file: 'test/a.test.ts', test: 'it: does' },
          { reason: 'kernel', more: 'old ones' },
        ],
      })),
      { sentence: 'Three.', keepers: [] },
    ])
  })

  test('a line that ends in … stands for all sentences that begin so', () => {
    const promised = readPromises('a | …\n  no test: measured\n\nb …\n  no test: measured\n')
    expect(flaws({ name: 'x.md', sentences: ['a | 1', 'a | 2', 'ab'], list: 'x.txt', promised })).toEqual([
      'Cannot find who keeps the sentence "ab" of x.md; add it to x.txt with the test that keeps it',
      'Cannot find the sentence "b …" of x.txt on x.md; take it out of the list',
    ])
  })

  test.each([
    {
      what: 'a new sentence',
      says: 'Cannot find who keeps the sentence "New." of x.md; add it to x.txt with the test that keeps it',
    },
    { what: 'one that has gone', says: 'Cannot find the sentence "Gone." of x.txt on x.md; take it out of the list' },
    {
      what: 'one that nothing keeps',
      says: 'Cannot keep the sentence "Bare." as x.txt says: add a test, or "no test:" and a reason',
    },
    {
      what: 'a test that is not there',
      says: 'Cannot keep the sentence "One." as x.txt says: there is no test "no such" in test/unit/speed.test.ts',
    },
    {
      what: 'a file that is not there',
      says: 'Cannot keep the sentence "Two." as x.txt says: there is no test "it" in test/no.test.ts',
    },
    {
      what: 'what is no reason',
      says: 'Cannot keep the sentence "Three." as x.txt says: "so" is no reason; test/support/promises.ts has them',
    },
    {
      what: 'a test that is missing for no reason',
      says: 'Cannot keep the sentence "Four." as x.txt says: say in parentheses why it is not tested',
    },
  ])('$what is found', ({ says }) => {
    const own = 'test/unit/speed.test.ts: no such'
    const rows = [
      'Gone.\n  no test: kernel',
      `One.\n  ${own}`,
      'Two.\n  test/no.test.ts: it',
      'Three.\n  no test: so',
      'Four.\n  no test: not tested',
      'Five.\n  test/unit/promises.test.ts: $what is found',
      'Bare.',
    ]
    const sentences = ['New.', 'One.', 'Two.', 'Three.', 'Four.', 'Five.', 'Bare.']
    const found = flaws({ name: 'x.md', sentences, list: 'x.txt', promised: readPromises(rows.join('\n\n')) })
    expect(found).toHaveLength(7)
    expect(found).toContain(says)
  })
})
