import { expect, test } from 'vitest'
import {
  DIRECTORY_SIZE,
  DirectoryWriter,
  entryOf,
  formatDirectory,
  isDirectory,
  sections,
} from '../../../src/memories/directory.ts'
import { feedAnswer, requireLayouts } from '../../../src/memories/feed-answer.ts'

function directory() {
  const memory = new ArrayBuffer(DIRECTORY_SIZE)
  formatDirectory(memory)
  const view = new DataView(memory)
  const at = (section: keyof typeof sections, place: number): number =>
    sections[section].at + place * sections[section].size
  const text = (section: keyof typeof sections, place: number): string =>
    Buffer.from(memory, at(section, place) + 8, view.getInt32(at(section, place) + 4, true)).toString()
  return { memory, view, at, text, writer: new DirectoryWriter(memory) }
}

test('a container has its place as long as it is there', () => {
  const { writer, text } = directory()
  writer.container(3, { id: 'one' })
  expect(entryOf(text('containers', 3))).toEqual({ id: 'one' })
  expect(writer.before(3)).toEqual({ id: 'one' })
  writer.clear(3)
  expect([text('containers', 3), writer.before(3)]).toEqual(['', undefined])
})

test('what a list needs stands in the first line', () => {
  const { writer, text } = directory()
  writer.container(0, { keys: { mknod: 1 }, serial: 7, id: 'a\nb', annotations: {} })
  const [first = '', ...rest] = text('containers', 0).split('\n')
  expect(entryOf(first)).toEqual({ serial: 7, id: 'a\nb' })
  expect(rest.map(entryOf)).toEqual([{ keys: { mknod: 1 }, annotations: {} }])
})

test('rings have the last ones, each with its number', () => {
  const { writer, text } = directory()
  for (let count = 0; count < sections.events.places + 2; count++) writer.add('events', { count })
  expect(entryOf(text('events', 1))).toEqual({ number: 257, count: 257 })
  expect(entryOf(text('events', 2))).toEqual({ number: 2, count: 2 })
})

test('a place has an even version when it is whole, also after a keeper that ended in the middle', () => {
  const { writer, view, at } = directory()
  writer.container(0, { id: 'one' })
  expect(view.getInt32(at('containers', 0), true) % 2).toBe(0)
  view.setInt32(at('containers', 0), 7, true)
  expect(writer.before(0)).toBeUndefined()
  writer.container(0, { id: 'two' })
  expect(view.getInt32(at('containers', 0), true)).toBe(8)
})

test('what has no room is left out, and said', () => {
  const { writer, text } = directory()
  writer.container(0, { id: 'one', annotations: { a: 'x'.repeat(20_000) }, keys: { mknod: 1 } })
  expect(entryOf(text('containers', 0))).toEqual({ id: 'one', keys: { mknod: 1 }, cut: ['annotations'] })
  const ignored = Array.from({ length: 16 }, () => '\x01'.repeat(200))
  writer.container(0, { id: 'one', serial: 7, ignored, keys: { mknod: 1 } })
  expect(entryOf(text('containers', 0))).toEqual({ id: 'one', serial: 7, keys: { mknod: 1 }, cut: ['ignored'] })
})

test('what says which container it is stays, whatever has no room beside it', () => {
  const { writer, text } = directory()
  writer.container(0, { id: 'one', serial: 7, anything: 'x'.repeat(20_000) })
  expect(entryOf(text('containers', 0))).toEqual({ id: 'one', serial: 7, cut: ['all'] })
  writer.container(0, { id: 'x'.repeat(20_000), serial: 7 })
  expect(entryOf(text('containers', 0))).toEqual({ serial: 7, cut: ['all'] })
})

test('a directory of another layout is not taken for ours, nor an answer of another daemon', () => {
  const { memory } = directory()
  expect(isDirectory(memory)).toBe(true)
  new Int32Array(memory)[0]!++
  expect(isDirectory(memory)).toBe(false)
  const answer = Buffer.from(feedAnswer()).toString()
  requireLayouts(answer)
  // Another version with other reasons.
  expect(() => requireLayouts(answer.replace(/\d+\n/, '7\n'))).toThrow('the daemon has another version')
  expect(() => requireLayouts('intercede-feed 1 1 9\n')).toThrow('the daemon has another version')
  expect(() => requireLayouts('HTTP/1.1 400')).toThrow('no daemon of Intercede answers')
})
