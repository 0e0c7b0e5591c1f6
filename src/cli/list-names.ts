/** What completions ask for while somebody types, since only a daemon, or the machine, knows it. */
export const LISTS = ['containers', 'live', 'runs'] as const
export type ListName = (typeof LISTS)[number]
