import type { Sentences } from './sentences.ts'

/** Reasons of setxattr(2) and its family. */
export const xattr = {
  attributeOfAll: ['an attribute that the kernel serves for the owner of a file in any user namespace', ''],
  otherAttribute: ['not the attribute trusted.overlay.opaque with the value y, so the kernel decides', ''],
  attributeAbsent: [
    'the inode has no attribute trusted.overlay.opaque that could be added to what the kernel says',
    '',
  ],
  invalidArgument: ['an argument has a value that the kernel does not know, and it says so', ''],
  notOfContainer: [
    'the owner or the group of the inode is not mapped in the user namespace of the container',
    'give the inode an owner and a group of the container',
  ],
  callUnknown: ['this kernel does not have the call, and it says so', ''],
  closedToUs: ['the file system lets only its own user namespace in, so the kernel decides', ''],
} as const satisfies Sentences
