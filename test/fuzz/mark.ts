/** In each device program of the hostile container, and in names of what it makes; several may attack at once. */
export const MARK = 0x0f00_0000 + process.pid
/** How it calls its cgroups, and what it makes through links of other tasks. */
export const MARKED = `fuzz-${MARK}-`
