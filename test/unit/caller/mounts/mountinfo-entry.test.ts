import { expect, test } from 'vitest'
import { isTmpfsOfHost } from '../../../../src/caller/mounts/caller-mounts.ts'
import { findMount } from '../../../../src/kernel/procfs/mountinfo.ts'

const map = [{ inside: 0, outside: 200_000, count: 65_536 }]
const line = (rest: string): string => `65 44 0:40 / /mnt\\040-\\040tmpfs rw,relatime,idmapped shared:7 - ${rest}`

test.each([
  { rest: 'tmpfs none rw,size=64k', ofHost: true },
  { rest: 'tmpfs uid=200000 rw,inode64', ofHost: true },
  { rest: 'tmpfs none rw,uid=200000,gid=200000', ofHost: false },
  { rest: 'tmpfs  rw,mode=755,uid=200005,gid=265535,inode64', ofHost: false },
  { rest: 'tmpfs none rw,uid=200000', ofHost: true },
  { rest: 'tmpfs none rw,uid=265536,gid=200000', ofHost: true },
  { rest: 'fuse none rw,user_id=0,group_id=0', ofHost: false },
])('isTmpfsOfHost() of $rest: $ofHost', ({ rest, ofHost }) => {
  expect(isTmpfsOfHost(findMount(line(rest), 65)!, map, map)).toBe(ofHost)
})

test('a line of mountinfo that was cut off is no mount, so none of the host', () => {
  expect(findMount(line('tmpfs'), 65)).toBeUndefined()
})
