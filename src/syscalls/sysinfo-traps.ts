import type { Traps } from '../calls/rule.ts'

/** sysinfo(2): has no argument to filter on. */
export const sysinfoTraps: Traps = ({ sysinfo }) => (sysinfo ? [{ name: 'sysinfo' }] : [])
