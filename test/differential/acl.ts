import type { AccessAcl, DefaultAcl, Who } from './scene.ts'

const tags = { user: 1, namedUser: 2, group: 4, namedGroup: 8, mask: 16, others: 32 } as const
type Entry = readonly [tag: keyof typeof tags, permissions: number, who?: Who]

const lists: Record<AccessAcl | DefaultAcl, readonly Entry[]> = {
  letsUser: [
    ['user', 7],
    ['namedUser', 7, 'user'],
    ['group', 5],
    ['mask', 7],
    ['others', 0],
  ],
  letsShared: [
    ['user', 7],
    ['group', 0],
    ['namedGroup', 7, 'shared'],
    ['mask', 7],
    ['others', 5],
  ],
  barsUser: [
    ['user', 7],
    ['namedUser', 0, 'user'],
    ['group', 7],
    ['mask', 7],
    ['others', 7],
  ],
  wide: [
    ['user', 7],
    ['group', 7],
    ['others', 7],
  ],
  narrow: [
    ['user', 6],
    ['group', 0],
    ['others', 0],
  ],
  named: [
    ['user', 7],
    ['namedUser', 6, 'user'],
    ['group', 4],
    ['mask', 6],
    ['others', 0],
  ],
}

/**
 * An access control list as the value of `system.posix_acl_access` or `_default`: u32 version 2, then for each entry
 * u16 tag, u16 permissions, u32 id.
 *
 * @see linux/include/uapi/linux/posix_acl_xattr.h
 */
export function aclValue(name: AccessAcl | DefaultAcl, idOf: (who: Who) => number): Buffer {
  const entries = lists[name]
  const value = Buffer.alloc(4 + 8 * entries.length)
  value.writeUInt32LE(2)
  entries.forEach(([tag, permissions, who], index) => {
    value.writeUInt16LE(tags[tag], 4 + 8 * index)
    value.writeUInt16LE(permissions, 6 + 8 * index)
    value.writeUInt32LE(who === undefined ? 0xffffffff : idOf(who), 8 + 8 * index)
  })
  return value
}
