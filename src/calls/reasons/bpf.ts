import type { Sentences } from './sentences.ts'

/** Reasons of bpf(2). */
export const bpf = {
  bpfMap: ['a map of bpf, which no device program needs; the kernel lets root of the host alone make one', ''],
  bpfCommand: ['the command {a} of bpf is none that is served for device programs', ''],
  bpfProgramType: ['a program of type {a}: only device programs of cgroups are served', ''],
  bpfAttachType: ['an attachment of type {a}: only device programs of cgroups are served', ''],
  bpfUnknownMember: ['byte {a} of the argument is beyond all members that are known, so the kernel judges', ''],
  bpfMember: [
    'the member at byte {a} of the argument must be zero: what it names would be looked up in intercede, not in the caller',
    'use no maps, no BTF and no tokens in a device program',
  ],
  bpfFlags: ['the flags {a} are not served for device programs', ''],
  bpfTooLong: ['{a} instructions are too many for a device program: 4,096 are served', 'shorten the list of devices'],
  bpfInstruction: [
    'instruction {a} (code {b}) is none that a device program needs: a call, a map, or memory beyond its context and stack',
    'write the program with nothing but arithmetic, jumps, and loads from its context',
  ],
  notOpen: ['no such descriptor is open in the thread that called', ''],
  notOurs: ['the descriptor or number is of no program that this container has loaded through intercede', ''],
  notAttached: ['that program is not attached to this cgroup', ''],
  notCgroup: ['the descriptor is of no cgroup of the unified hierarchy', ''],
  removedCgroup: ['the cgroup of the descriptor was removed', ''],
  noCgroup: [
    'the container is in no cgroup of the unified hierarchy that intercede can see',
    'mount cgroup2 on the host before the daemon starts, and start the container with a cgroup manager',
  ],
  rootCgroup: [
    'the container is in the root cgroup, which is not its own',
    'start the container with a cgroup manager, not with --cgroup-manager=disabled or --cgroups=disabled',
  ],
  sharedCgroup: [
    'the cgroup of the container also holds processes of others',
    'give the container a cgroup of its own',
  ],
  crowdedCgroup: [
    'the cgroup of the container holds too many processes to look at',
    'spread them over groups below it',
  ],
  ownCgroup: [
    'the cgroup is the one into which the runtime put the container, whose device rules are not its to change',
    'make a cgroup below it',
  ],
  outsideCgroup: ['the cgroup is not below that of the container', ''],
  loosens: [
    'a cgroup above has a device program without BPF_F_ALLOW_MULTI: one below would replace it instead of adding to it',
    'start the container with a runtime that attaches its device rules with BPF_F_ALLOW_MULTI, such as crun',
  ],
  tooManyPrograms: ['the container has too many device programs: 128 at once are served', 'close or detach some'],
} as const satisfies Sentences
