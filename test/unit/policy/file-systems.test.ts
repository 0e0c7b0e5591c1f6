import { expect, test } from 'vitest'
import { unknownFileSystems } from '../../../src/policy/ineffective.ts'
import { settle } from '../../../src/policy/settings.ts'

const known = () => new Set(['ext4', 'xfs', 'fuseblk'])
const unknownOf = (allowed: string, names = known) => unknownFileSystems(settle([['mount.allowed', allowed]]), names)
const REST = '; /proc/filesystems has those that it knows, and more come with modules'

test.each([
  { allowed: '', says: [] },
  { allowed: 'ext4,xfs,fuseblk.ntfs', says: [] },
  {
    allowed: 'ext4,exr4',
    says: [`mount.allowed: this kernel does not know the file system "exr4" (did you mean "ext4"?)${REST}`],
  },
  { allowed: 'squashfs', says: [`mount.allowed: this kernel does not know the file system "squashfs"${REST}`] },
])('unknownFileSystems() of $allowed', ({ allowed, says }) => expect(unknownOf(allowed)).toEqual(says))

test('unknownFileSystems() says nothing where the kernel does not tell', () => {
  expect(unknownOf('squashfs', () => new Set())).toEqual([])
})
