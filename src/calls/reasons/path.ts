import type { Sentences } from './sentences.ts'

/** Reasons of calls that name a file. */
export const path = {
  pathNotResolved: ['the path does not resolve for the caller, so the kernel reports why', ''],
  pathDescriptor: ['the descriptor was opened with O_PATH, so the kernel refuses it', ''],
  noWalker: [
    'the path can only be resolved in the user namespace of the container, where there is nobody to do it',
    'start the container with a pid namespace of its own; fs.suid_dumpable must not be 1',
  ],
  walkerStuck: [
    'the directory lies on a file system of the container that does not answer',
    'find out which of its file systems hangs',
  ],
  crossesProc: [
    'the path leads through a link of procfs, which means something else for intercede',
    'name the directory itself',
  ],
} as const satisfies Sentences
