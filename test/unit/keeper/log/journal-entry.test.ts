import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { journalEntry, type LogEntry, messageIds } from '../../../../src/keeper/log/journal.ts'

/** Reads the fields of an entry as journald does: a name, a newline, the length in 64 bits, the value, a newline. */
function fieldsOf(bytes: Buffer): ReadonlyMap<string, string> {
  const fields = new Map<string, string>()
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf('\n', at)
    const length = Number(bytes.readBigUInt64LE(end + 1))
    fields.set(bytes.toString('latin1', at, end), bytes.toString('utf8', end + 9, end + 9 + length))
    expect(bytes[end + 9 + length]).toBe(10)
    at = end + 10 + length
  }
  return fields
}

const ID = 'a1'.repeat(32)
const refused: LogEntry = {
  ...{ level: 'notice', message: 'call', kind: 'refusedCall' },
  details: {
    ...{ container: ID, syscall: 'mknodat', verdict: 'left', reason: 'deviceNotAllowed' },
    ...{ says: 'the device 1:1 is not allowed', remedy: 'if it is harmless, add c:1:1', since: 3 },
  },
}

test('a refused call has a sentence, and fields by which it is found', () => {
  expect(Object.fromEntries(fieldsOf(journalEntry(refused)))).toEqual({
    MESSAGE:
      'a1a1a1a1a1a1: mknodat left to the kernel: the device 1:1 is not allowed; if it is harmless, add c:1:1 (and 3 more like it)',
    ...{ PRIORITY: '5', SYSLOG_IDENTIFIER: 'intercede', MESSAGE_ID: messageIds.refusedCall },
    ...{ INTERCEDE_CONTAINER: 'a1a1a1a1a1a1', INTERCEDE_CONTAINER_FULL: ID, SYSCALL: 'mknodat', VERDICT: 'left' },
    ...{ REASON: 'deviceNotAllowed', SAYS: 'the device 1:1 is not allowed', REMEDY: 'if it is harmless, add c:1:1' },
    INTERCEDE_DETAILS: JSON.stringify(refused.details),
  })
})

test('a refused hand-over is found by its container, which its sentence names already', () => {
  const entry: LogEntry = { level: 'warn', message: 'Cannot serve it', kind: 'refused', details: { container: ID } }
  expect(Object.fromEntries(fieldsOf(journalEntry(entry)))).toMatchObject({
    ...{ MESSAGE: 'Cannot serve it', INTERCEDE_CONTAINER_FULL: ID },
  })
})

test('"podman logs" of a container does not show our lines, since no field is one that conmon writes', () => {
  const lines: LogEntry[] = [refused, { ...refused, level: 'info', message: 'container', kind: 'registered' }]
  for (const line of lines)
    expect([...fieldsOf(journalEntry(line)).keys()].filter((name) => name.startsWith('CONTAINER_'))).toEqual([])
  expect(fieldsOf(journalEntry(lines[1]!)).get('MESSAGE')).toBe('a1a1a1a1a1a1: the container was handed over')
})

test('who made a call stands in fields of its own, and is not escaped twice', () => {
  const details = { ...refused.details, comm: 'a\\012\\\\', pid: 12 }
  const fields = fieldsOf(journalEntry({ ...refused, details }))
  expect([fields.get('CALLER_COMM'), fields.get('CALLER_PID')]).toEqual(['a\\012\\\\', '12'])
  expect(JSON.parse(fields.get('INTERCEDE_DETAILS')!)).toMatchObject({ comm: 'a\\012\\\\', pid: 12 })
  const joined = fieldsOf(journalEntry({ ...refused, kind: 'joined', details: { container: ID, pid: 12 } }))
  expect(joined.has('CALLER_PID')).toBe(false)
})

test.each([
  { what: 'newlines, which would begin a field', text: 'a\nPRIORITY=0\n', shown: 'a\\012PRIORITY=0\\012' },
  { what: 'escape sequences', text: '\u001b[2J\u009b', shown: '\\033[2J\\302\\233' },
  { what: 'what turns the text', text: '\u202ex', shown: '\\342\\200\\256x' },
])('$what of a container stay in their field, as octal numbers', ({ text, shown }) => {
  const fields = fieldsOf(
    journalEntry({ level: 'warn', message: text, kind: 'program', details: { container: text, words: text } }),
  )
  expect(fields.get('MESSAGE')).toBe(`${shown}: ${shown}`)
  expect(fields.get('INTERCEDE_CONTAINER_FULL')).toBe(shown)
  expect(JSON.parse(fields.get('INTERCEDE_DETAILS')!)).toEqual({ container: shown, words: shown })
  expect(fields.get('PRIORITY')).toBe('4')
})

test('the catalog explains every kind of line, and no other', () => {
  const catalog = readFileSync(new URL('../../../../deploy/journal/intercede.catalog', import.meta.url), 'utf8')
  const ids = [...catalog.matchAll(/^-- (\w+)$/gm)].map(([, id]) => id)
  expect(ids).toEqual(Object.values(messageIds))
  expect(new Set(ids).size).toBe(ids.length)
  // A line of another entry would be taken for a part of this one.
  for (const [, header] of catalog.matchAll(/^-- \w+\n(\S+):/gm)) expect(header).toBe('Subject')
})
