import { expect, test } from 'vitest'
import { CallerName } from '../../../../src/caller/task/proc-access.ts'

const nameOf = ({ isKnown, comm, length }: CallerName): string | undefined =>
  isKnown ? Buffer.from(comm).toString('latin1', 0, length) : undefined

test.each([
  { status: 'Name:\tmknod\nUmask:\t0022\n', comm: 'mknod' },
  { status: 'Name:\t\nUmask:\t0022\n', comm: '' },
  { status: 'Name:\ta\\nb\\\\nc\n', comm: 'a\nb\\nc' },
  { status: 'Name:\t\r\x1b[31m\xff:\t\n', comm: '\r\x1b[31m\xff:\t' },
  { status: 'Name:\tkworker/R-of-more-than-fifteen\n', comm: 'kworker/R-of-mo' },
  { status: 'Umask:\t0022\n', comm: undefined },
])('takeStatus() finds $comm in $status', ({ status, comm }) => {
  const name = new CallerName()
  const bytes = Buffer.from(`${status}Name:\tof another file`, 'latin1')
  name.takeStatus(bytes, status.length)
  expect(nameOf(name)).toBe(comm)
})

test.each([
  { file: 'mknod\n', comm: 'mknod' },
  { file: 'a\nb\\\n\n', comm: 'a\nb\\\n' },
  { file: '\n', comm: '' },
])('takeComm() finds $comm, and nothing of the name before', ({ file, comm }) => {
  const name = new CallerName()
  name.takeComm(Buffer.from('something else\n'), 15)
  name.pid = 12
  name.takeComm(Buffer.from(file), file.length)
  expect([nameOf(name), name.pid]).toEqual([comm, 0])
  name.end()
  expect(nameOf(name)).toBeUndefined()
})
