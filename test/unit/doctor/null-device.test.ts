import { expect, test } from 'vitest'
import { flawOfNull } from '../../../src/doctor/host-facts.ts'

const host = new Set([0])

test.each([
  { what: "root's, for all", stat: { uid: 0, mode: 0o20666 }, owners: host, flaw: undefined },
  {
    what: 'of nobody, in another user namespace',
    stat: { uid: 65_534, mode: 0o20666 },
    owners: new Set([0, 65_534]),
    flaw: undefined,
  },
  {
    what: "a container's",
    stat: { uid: 300_000, mode: 0o20666 },
    owners: host,
    flaw: /^\/dev\/null belongs to user 300000/,
  },
  { what: 'closed, when it was given back', stat: { uid: 0, mode: 0o20600 }, owners: host, flaw: /mode is 600$/ },
])('flawOfNull() of one that is $what', ({ stat, owners, flaw }) => {
  const found = flawOfNull(stat, owners)
  if (flaw) expect(found).toMatch(flaw)
  else expect(found).toBeUndefined()
})
