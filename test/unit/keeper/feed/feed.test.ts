import { expect, test } from 'vitest'
import { Feed } from '../../../../src/keeper/feed/feed.ts'
import { map, memfd } from '../../../../src/kernel/shared-memory.ts'
import { CountPlaces } from '../../../../src/memories/count-places.ts'
import { countsSize, formatCounts } from '../../../../src/memories/counts-layout.ts'
import { DIRECTORY_SIZE, DirectoryWriter, formatDirectory } from '../../../../src/memories/directory.ts'
import { DirectoryReader, MemoryFile } from '../../../../src/reader/directory-reader.ts'

test('programs that fail in one container do not push out the events of others', () => {
  const [counts, directory] = [memfd('counts', countsSize(1)), memfd('directory', DIRECTORY_SIZE)]
  formatCounts(map(counts))
  formatDirectory(map(directory))
  const limits = { callsPerContainer: 1, listenersPerContainer: 1, kept: 1 }
  const feed = new Feed(
    new DirectoryWriter(map(directory)),
    new CountPlaces(counts, map(counts)),
    { containerLabel: false, forUser: false, configPath: '/c', limits },
    { group: undefined, failed: () => {} },
  )
  feed.note({ type: 'fault', message: 'the one to be seen' })
  for (let time = 0; time < 1000; time++)
    for (const id of ['a', 'b'])
      feed.note({ type: 'program', id, program: `mount.x ${time}`, reason: 'done', words: '' })
  const events = new DirectoryReader(new MemoryFile(directory)).ring('events')
  expect(events.map(({ type }) => type)).toContain('fault')
  expect(events.filter(({ type, id }) => type === 'program' && id === 'b')).toHaveLength(4)
})
