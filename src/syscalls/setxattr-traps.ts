import { EXACT, type Traps } from '../calls/rule.ts'

/** `size` is a size_t: the kernel reads the whole register. */
const SIZE = 3

/**
 * The setxattr family: only values of one byte, such as the "y" of trusted.overlay.opaque. The name is in memory, where
 * a filter cannot look. setxattrat(2) keeps even the size in memory: trapping it would catch every attribute that is
 * ever set, so it is left to the kernel.
 */
export const setxattrTraps: Traps = {
  names: ['setxattr', 'lsetxattr', 'fsetxattr'],
  traps: ({ setxattr }) =>
    setxattr ? setxattrTraps.names.map((name) => ({ name, when: [{ arg: SIZE, mask: EXACT, equals: 1n }] })) : [],
}
