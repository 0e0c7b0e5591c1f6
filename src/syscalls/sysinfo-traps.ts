import type { Traps } from '../calls/rule.ts'

/** Traps every sysinfo(2), which has no argument to filter on. */
export const sysinfoTraps: Traps = ({ sysinfo }) => (sysinfo ? [{ name: 'sysinfo' }] : [])
