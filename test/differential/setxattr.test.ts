import { describe } from 'vitest'
import { missing } from '../support/fixtures.ts'
import { differential } from './differential.ts'
import { mkfsPrograms } from './disks.ts'
import { setxattr } from './setxattr.ts'

const absent = missing(...mkfsPrograms)

describe.skipIf(absent)(`on ext4, xfs, btrfs, tmpfs and an overlay${absent ? ` (${absent})` : ''}`, () => {
  differential(setxattr, 3000)
})
