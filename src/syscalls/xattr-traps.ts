import { type Condition, EXACT, type Traps } from '../calls/rule.ts'

/** `size` is a size_t: the kernel reads the whole register. */
const oneByte: readonly Condition[] = [{ arg: 3, mask: EXACT, equals: 1n }]

const SETTING = ['setxattr', 'lsetxattr', 'fsetxattr'] as const

const READING = [
  ...['getxattr', 'lgetxattr', 'fgetxattr', 'getxattrat'],
  ...['listxattr', 'llistxattr', 'flistxattr', 'listxattrat'],
  ...['removexattr', 'lremovexattr', 'fremovexattr', 'removexattrat'],
] as const

/**
 * Calls on extended attributes. Their names are in memory, where a filter cannot look. Of the setting ones only values of
 * one byte are trapped, such as the "y" of trusted.overlay.opaque; setxattrat(2) keeps even the size in memory, so all of
 * it. The reading ones have nothing to go by: `ls -l` makes one of them for each file, so they have a key of their own.
 */
export const xattrTraps: Traps = ({ setxattr }) =>
  setxattr
    ? [
        ...SETTING.map((name) => ({ name, when: oneByte })),
        { name: 'setxattrat' },
        ...(setxattr.read ? READING.map((name) => ({ name })) : []),
      ]
    : []
