import { describe } from 'vitest'
import { cannotRaiseLimits, lacks, withReason } from '../support/skipped.ts'
import { differential } from './differential.ts'
import { rlimits } from './rlimits.ts'

const cannot = cannotRaiseLimits ?? lacks('pidTranslation')
describe.skipIf(cannot)(withReason('limits', cannot), () => void differential(rlimits, 1000))
