import type { Sentences } from './sentences.ts'

/** Reasons of file systems that a FUSE program mounts. */
export const fuse = {
  fuseByMount: [
    'the file system is mounted by a FUSE program, which mount(2) asks for: programs such as mount(8) use that next',
    '',
  ],
  fuseNoRuntime: [
    'the runtime that could start a FUSE program in the container is not known',
    'start the container with crun or runc, on Linux 6.5 or later',
  ],
  fuseElsewhere: [
    'the caller is not in the namespaces, the root directory or under the label of the container, where its FUSE programs start',
    'mount it from a process that has not left them',
  ],
  fuseFilters: [
    'the caller has more seccomp filters than its container, and a FUSE program would not have them',
    'mount it from a process without filters of its own',
  ],
  fuseIds: [
    'the caller has several user or group ids at once, or one that its container does not map, as no FUSE program can have',
    'mount it from a process that is root in all of its ids',
  ],
  fuseNotText: ['the paths or options are no UTF-8, and the runtime takes nothing else', ''],
  fuseNoDevice: ['the container has no /dev/fuse that it may open', 'start the container with --device /dev/fuse'],
  fuseNoProgram: [
    'the image of the container lacks the FUSE program {a:program}, which the policy names',
    'install it in the image, where the PATH of the container leads',
  ],
  fuseNotInImage: [
    'the image of the container lacks the FUSE program {a:program}, which the policy names by an absolute path: it is one of the image, never one of the host',
    'install it in the image at this path, or name it without one',
  ],
  fuseBusy: [
    'the container has too many FUSE programs, or too many are starting and it was not its turn in time',
    'try again, or unmount what is not needed',
  ],
  fuseFailed: [
    'the FUSE program ended with status {a}; what it said is logged beside this',
    'try it by hand in the container',
  ],
  fuseNotMounted: ['the FUSE program ended without an error, and had not mounted anything on the target', ''],
  fuseTimeout: ['the FUSE program had not mounted after 10 seconds, and was ended', 'try it by hand in the container'],
} as const satisfies Sentences
