import { type Condition, EXACT, type Traps } from '../calls/rule.ts'

/** Matches a size of 1. `size` is a size_t, of which the kernel reads the whole register. */
const oneByte: readonly Condition[] = [{ arg: 3, mask: EXACT, equals: 1n }]

const SETTING = ['setxattr', 'lsetxattr', 'fsetxattr'] as const

const READING = [
  ...['getxattr', 'lgetxattr', 'fgetxattr', 'getxattrat'],
  ...['listxattr', 'llistxattr', 'flistxattr', 'listxattrat'],
  ...['removexattr', 'lremovexattr', 'fremovexattr', 'removexattrat'],
] as const

/**
 * Traps calls on extended attributes, whose names are in memory where a filter cannot look. Of the calls that set
 * attributes only those with a value of one byte are trapped, as the "y" of trusted.overlay.opaque has; setxattrat(2)
 * keeps the size in memory too, so it is always trapped. The calls that read offer nothing to filter on, and `ls -l`
 * makes one for each file, so they have a key of their own.
 */
export const xattrTraps: Traps = ({ setxattr }) =>
  setxattr
    ? [
        ...SETTING.map((name) => ({ name, when: oneByte })),
        { name: 'setxattrat' },
        ...(setxattr.read ? READING.map((name) => ({ name })) : []),
      ]
    : []
