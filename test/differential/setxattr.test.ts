import { describe } from 'vitest'
import { missing } from '../support/fixtures.ts'
import { withReason } from '../support/skipped.ts'
import { differential } from './differential.ts'
import { mkfsPrograms } from './disks.ts'
import { setxattr } from './setxattr.ts'

const absent = missing(...mkfsPrograms)

describe.skipIf(absent)(withReason('on ext4, xfs, btrfs, tmpfs and an overlay', absent), () => {
  differential(setxattr, 3000)
})
