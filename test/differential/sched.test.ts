import { differential } from './differential.ts'
import { sched } from './sched.ts'

differential(sched, 1000)
