import { expect, test } from 'vitest'
import { StartWords } from '../../../../src/runtimes/launch/pipes.ts'

const passed = async (words: StartWords, chunks: readonly string[]): Promise<string> => {
  async function* stream(): AsyncGenerator<Buffer> {
    for (const chunk of chunks) yield Buffer.from(chunk)
  }
  let all = ''
  for await (const chunk of words.without(stream())) all += chunk
  return all
}

test.each([
  { what: 'in three writes', chunks: ['[FATAL tini (2)] ', 'exec x failed: Permission denied', '\n'] },
  { what: 'in one', chunks: ['[FATAL tini (7)] exec x failed: Permission denied\n'] },
  { what: 'on a terminal', chunks: ['[FATAL tini (2)] exec x failed: Permission denied\r\n'] },
])('StartWords withholds the words of the init $what', async ({ chunks }) => {
  const words = new StartWords(() => false)
  expect(await passed(words, chunks)).toBe('')
  expect(words.ofInit).toBe('Permission denied')
})

test.each([
  { what: 'more behind them', chunks: ['[FATAL tini (2)] exec x failed: y\n', 'more\n'] },
  { what: 'something before them', chunks: ['hi\n', '[FATAL tini (2)] exec x failed: y\n'] },
  { what: 'a line that begins so', chunks: ['[FATAL ', 'error]\n'] },
  { what: 'one that never ends', chunks: ['[FATAL tini (2)] ', 'x'.repeat(20_000), 'y'] },
])('StartWords passes on $what', async ({ chunks }) => {
  const words = new StartWords(() => false)
  expect(await passed(words, chunks)).toBe(chunks.join(''))
  expect(words.ofInit).toBeUndefined()
})

/** Says no so many times, then yes. */
const failsAtLast = (times: number) => () => times-- <= 0

test('StartWords withholds what comes after the runtime has logged an error', async () => {
  expect(await passed(new StartWords(() => true), ['chdir to `/x`: ', 'No such file or directory\n'])).toBe('')
  expect(await passed(new StartWords(failsAtLast(1)), ['chdir to `/x`: No such file or directory\n'])).toBe('')
  expect(await passed(new StartWords(failsAtLast(2)), ['out\n', 'more\n'])).toBe('out\nmore\n')
})
