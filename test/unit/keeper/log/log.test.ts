import { closeSync, fstatSync, openSync } from 'node:fs'
import { expect, test } from 'vitest'
import { isJournalStream } from '../../../../src/keeper/log/journal.ts'
import { Log } from '../../../../src/keeper/log/log.ts'
import { logLevels } from '../../../../src/policy/config-keys.ts'

test('a line begins with the priority of its level where the journal takes it, and nowhere else', () => {
  const lines: string[] = []
  for (const has of [true, false]) {
    const log = new Log('debug', has, { write: (line) => lines.push(line), close: () => {} })
    for (const level of logLevels) log.write(level, 'x')
  }
  expect(lines.map((line) => line.slice(0, 4))).toEqual([
    ...['<7>{', '<6>{', '<5>{', '<4>{', '<3>{'],
    ...logLevels.map(() => '{"ti'),
  ])
})

test('a level is left out if the configuration wants only more important ones', () => {
  const lines: string[] = []
  const log = new Log('notice', false, { write: (line) => lines.push(JSON.parse(line).level), close: () => {} })
  for (const level of logLevels) log.write(level, 'x')
  expect(lines).toEqual(['notice', 'warn', 'error'])
})

test('a line is JSON, and has no character that a terminal or a reader of lines would take for more', () => {
  const lines: string[] = []
  const log = new Log('debug', false, { write: (line) => lines.push(line), close: () => {} })
  const words = 'a\u009b\u2028\u202e\u007f\u{e0041}\n"ä'
  log.write('warn', 'x', { words })
  expect(lines[0]).toMatch(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+\n$/u)
  expect(JSON.parse(lines[0]!)).toMatchObject({ words })
})

test('isJournalStream() takes nobody at the word of the environment', () => {
  const fd = openSync('/dev/null', 'r')
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true })
    expect(isJournalStream(fd, { JOURNAL_STREAM: `${dev}:${ino}` })).toBe(true)
    expect(isJournalStream(fd, { JOURNAL_STREAM: `${dev}:${ino + 1n}` })).toBe(false)
    expect(isJournalStream(fd, { JOURNAL_STREAM: '' })).toBe(false)
    expect(isJournalStream(fd, {})).toBe(false)
  } finally {
    closeSync(fd)
  }
})
