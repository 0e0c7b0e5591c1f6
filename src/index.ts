export type { Policy } from './calls/policy.ts'
