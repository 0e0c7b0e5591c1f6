import { capabilities } from '../abi/credentials.ts'
import { errnoName } from '../abi/errno.ts'
import { delegations } from '../policy/delegations.ts'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/keys.ts'
import { givenHere } from '../policy/refused-devices.ts'
import { limitName } from '../policy/resource-limits.ts'
import { unpackAttribute, unpackLimit, unpackName } from './packed.ts'

/**
 * Maps the code of each reason to its sentence, and its remedy if there is one. It is the only place of them: the log,
 * the end of `intercede run`, metrics and docs/guide/reasons.md read this table.
 *
 * `{a}` and `{b}` are replaced by the reason's numbers, `{a:int}` by one that may be negative, `{a:cap}` by the name of
 * capability a, `{a:delegation}` by that of an option of bpffs, `{b:delegated}` by its value b, `{a:errno}` by that of
 * errno a, `{b:reason}` by the code of reason b, `{a:name}` by the name that both numbers hold (`packName`),
 * `{a:attribute}` by what a call does to which attribute (`packAttribute`), `{a:resource}` by the name of resource a of
 * setrlimit(2), `{a:limit}` by a limit on it (`packLimit`).
 */
export const reasons = {
  // Reasons that any call may have.
  done: ['done for the caller', ''],
  kernelAnswered: ['done as the caller: the kernel itself answered with this errno', ''],
  adopted: ['done already: a signal interrupted the call afterwards, and the caller repeated it', ''],
  keyOff: [
    'the key {a:key} is off for this container',
    'turn it on: off is the default, unless "intercede inspect" names another source of its value',
  ],
  observedAct: [
    'observe mode: intercede would try this for the caller, and left it to the kernel; whether it succeeds is not known: the source of a mount, for example, was not opened',
    'have it done: set security.syscalls.intercept.mode to enforce',
  ],
  observedErrno: [
    'observe mode: intercede would answer {a:errno} because of {b:reason}, and left it to the kernel',
    'see "intercede explain {b:reason}"',
  ],
  notServed: ['this version does not serve this call', 'leave its key off: trapping it only costs time'],
  lacksCapability: [
    'the caller lacks CAP_{a:cap} in its user namespace',
    'make the call as root, in a container started with --cap-add {a:cap}',
  ],
  childUserns: [
    'the caller is in a child user namespace of the container, where its capabilities do not count',
    "make the call from the container's initial user namespace",
  ],
  hostUserns: [
    'the container has no user namespace of its own',
    'start it with --userns=auto (podman), hostUsers: false (Kubernetes) or lxc.idmap (LXC); for Docker, set "userns-remap" in its daemon.json, and use no --userns=host',
  ],
  hostCapability: ['the container has no user namespace of its own, and the caller has CAP_{a:cap} on the host', ''],
  userDaemon: [
    'intercede runs for a user here (serve --user), and the kernel lets only root of the host do this',
    'have the administrator run intercede serve, and start the container as root with its own user namespace',
  ],
  foreignUserns: [
    "the container's user namespace is not a direct child of intercede's",
    "run intercede in the runtime's user namespace",
  ],
  unclearUserns: [
    "the container's init is not in the user namespace that owns its pid namespace, so its first user namespace is unknown",
    'start the container with its own pid namespace, and keep its init in its first user namespace',
  ],
  policyInvalid: [
    'the container\'s metadata, or the profile that it names, is invalid; the log line "Cannot use the policy" says why',
    'correct the metadata and restart the container, or correct the configuration and reload the service',
  ],
  unknownContainer: ['the container was started before this daemon, or its hand-over failed', 'restart the container'],
  invisibleCaller: [
    "the caller, or the runtime that knows its number, is not in intercede's pid namespace",
    "run intercede and the runtime (LXC's monitor, crun, runc) in the host's pid namespace",
  ],
  gone: ['the caller died or was interrupted before the answer', ''],
  tooManyGroups: [
    'the caller has more than {a} supplementary groups: reading and adopting them for each call would delay others',
    'make the call from a process with fewer groups',
  ],
  unreadable: ["the arguments cannot be read from the caller's memory", ''],
  lookFailed: ['looking at the caller or its files failed with errno {a}', ''],
  notWritten: ["the result could not be written to the caller's memory: looking at it failed with errno {a}", ''],
  containerBusy: [
    'too many calls hang in file systems of containers, or LXC has forwarded too many calls of this container at once',
    'find the containers whose calls are logged late, and what hangs there',
  ],
  engineFailed: ['the engine fails with such calls', 'please report it with the log lines before it'],
  engineEnded: [
    'an engine ended after it had answered the call, or the caller died or was interrupted at that moment',
    '',
  ],
  noEngine: [
    "intercede's engines keep failing, so calls are left to the kernel until the next one is tried",
    'read the log: journalctl -u intercede -p err',
  ],
  unsettled: ['the engine ended during the act, and its result is unknown', ''],
  fault: ['a bug in intercede', 'please report it with the log line'],

  // Reasons of calls that name a file.
  pathNotResolved: ['the path does not resolve for the caller', ''],
  pathDescriptor: ['the descriptor was opened with O_PATH, so the kernel refuses it', ''],
  noWalker: [
    "the path resolves only in the container's user namespace, and no process can look there",
    'start the container with its own pid namespace; fs.suid_dumpable must not be 1',
  ],
  walkerStuck: [
    'the directory is on a file system of the container that does not answer',
    'find the file system that hangs',
  ],
  crossesProc: [
    'the path leads through a link of procfs, which means something else for intercede',
    'name the directory itself',
  ],

  // Reasons of mknod(2).
  doneButClosed: [
    'done for the caller, but the device rules of its control group forbid opening it',
    'allow the device when you start the container, for podman by --device-cgroup-rule',
  ],
  doneAsGranted: ['done for the caller: the device rules of its control group let it open the device anyway', ''],
  doneOnNodev: [
    'done for the caller, but its mount is nodev, so the node does not open there',
    'open it on a mount without nodev',
  ],
  doneAndBarred: [
    'done for the caller, as a mount on an empty file that nobody can open: the device would be one of the host',
    '',
  ],
  deviceCgroup: [
    "the device rules of the caller's control group forbid making the device {a}:{b}",
    'allow it when you start the container, for podman by --device-cgroup-rule',
  ],
  opensHost: [
    'the device {a}:{b} would open a device of the host, and this kernel cannot make one that nobody can open',
    'use Linux 6.15 or later',
  ],
  deviceRulesUnknown: [
    "the device rules of the caller's control group are unknown: the process that tries them could not join the group, was killed in it, or has no cp that copies nodes",
    "check that the host has room for a process and has GNU's cp (as cp or gnucp), and that the group has memory for a shell and is at most 128 levels deep",
  ],
  notCharDevice: [
    'only character devices are made: a block device would be a disk of the host',
    'if the container has the device when it starts (--device), add granted to security.syscalls.intercept.mknod.devices, or use the node that it has; or mount an image by mount.fuse, under a type of its own: mount -t image FILE DIRECTORY with mount.fuse=image=fuse2fs',
  ],
  deviceNotGranted: [
    "the device rules of the caller's control group do not allow to read and write the device {a}:{b}",
    'allow it when you start the container, for podman by --device',
  ],
  everyDeviceGranted: [
    "the device rules of the caller's control group allow every device, so they grant none by its number",
    'start the container with rules that deny all others: podman with --device or --device-cgroup-rule, LXC with lxc.cgroup2.devices.deny = a',
  ],
  kernelMakesWhiteouts: [
    'an overlay whiteout (0:0), which the kernel makes for anyone, except on an overlay itself, where not even for root',
    '',
  ],
  deviceNotAllowed: [
    'the device {a}:{b} is not allowed',
    'if it is harmless, add c:{a}:{b} to security.syscalls.intercept.mknod.devices',
  ],
  hostMounts: [
    'the caller is not in a mount namespace of the container',
    'start the container with its own mount namespace',
  ],
  tooManyMounts: [
    'too many device nodes of the container are mounts',
    'make them on a file system that the host mounted without nodev',
  ],
  containerSuperblock: [
    'the file system was mounted inside the container, so a device node there would not open',
    'make the node on a file system that the host mounted',
  ],
  nodesNotShown: [
    'the file system was mounted inside the container, and before Linux 6.15 no device node can be made to open there',
    'mount a tmpfs there by mount.allowed=tmpfs, or use Linux 6.15 or later',
  ],

  // Reasons of setxattr(2) and its family.
  attributeOfAll: ["an attribute that the kernel serves for a file's owner in any user namespace", ''],
  otherAttribute: ['neither trusted.overlay.opaque with the value y, nor an attribute that a policy can allow', ''],
  attributeNotListed: [
    'the policy does not list the attribute of this call: {a:attribute}',
    'add its name to security.syscalls.intercept.setxattr.allowed',
  ],
  attributeNeverServed: ['no policy can list the attribute of this call: {a:attribute}', ''],
  ofKernel: ['the file is in sysfs or a control group, where no container needs the attribute', ''],
  attributeAbsent: ["the inode has no attribute that is served to add to the kernel's answer", ''],
  invalidArgument: ['the kernel rejects the value of an argument', ''],
  notOfContainer: [
    "the inode's owner or group is not mapped in the container's user namespace",
    'give the inode an owner and a group of the container',
  ],
  callUnknown: ['this kernel does not have the call', ''],
  closedToUs: ['the file system admits only its own user namespace', ''],

  // Reasons of mount(2), and of fsopen(2) and its family.
  changesMounts: ['no new file system is mounted', ''],
  remountsFileSystem: [
    'a container can change only a file system that it mounted without intercede',
    'for ro, nosuid, noexec of one mount use remount,bind; otherwise unmount it, and mount it with the options',
  ],
  forcesUnmount: [
    'a container can use umount -f only on a file system that it mounted without intercede',
    'use umount or umount -l',
  ],
  accessTimesLocked: [
    'the kernel keeps the access times (noatime, nodiratime, ...) of a mount that comes from outside the container or has a locked nodev',
    'set them when you mount the file system',
  ],
  fileSystemNotAllowed: [
    'the file system {a:name} is not in security.syscalls.intercept.mount.allowed',
    'mount it by FUSE, or allow it if you trust its driver with bytes from the container; if you did not name the type, mount(8) could not read the device and tries every type: show the device to the container, for intercede run and podman by --device',
  ],
  fileSystemMiswritten: [
    'the kernel has no file system {a:name}: names are case-sensitive',
    'write the name in small letters',
  ],
  sourceMissing: [
    'the source of the mount does not exist for the caller',
    'show the device to the container, for intercede run and podman by --device',
  ],
  sourceBarred: [
    "the device rules of the caller's control group forbid opening the source of the mount",
    'allow the device when you start the container, for intercede run and podman by --device',
  ],
  sourceClosed: [
    'the caller may not open the source of the mount: its owner and mode, or a nodev file system, forbid it',
    "give the device to the container, for intercede run and podman by --device; if the runtime binds the host's node (runc, LXC), give the node to the user who is root there",
  ],
  kernelMountsIt: ['a file system that the kernel mounts for any container', ''],
  takesDescriptors: [
    'options of the file system {a:name} are descriptors, which mean something else for intercede',
    'remove it from security.syscalls.intercept.mount.allowed',
  ],
  namesHost: [
    'the source or an option names something of the host instead of a device',
    'use a file system from a block device, or one by FUSE; see intercede-policy(7)',
  ],
  notForAll: ['the kernel does not accept this option for a tmpfs of a container', 'leave it out'],
  reservesPages: ['the option takes huge pages from the host before anyone uses one', 'use size instead of min_size'],
  endsMachine: ['the option makes the kernel panic on an error of the file system', 'use errors=remount-ro instead'],
  labelsFiles: ["the option sets file labels of the host's security module", 'leave it out'],
  foreignContext: ['this container did not get the context from intercede', ''],
  foreignMount: ['intercede did not make the mount for this container', ''],
  madeBefore: [
    'the mount was made before security.syscalls.intercept.mount.nodev or mount.shift changed, and gives more than they now allow',
    'mount it again',
  ],
  contextTold: ['recorded for the file system that will be created', ''],
  contextFull: ['the context has more than a page of parameters', ''],
  contextBusy: ['another call is using the context', ''],
  contextOver: ['the context has created its file system, or failed', 'open another'],
  contextUnready: ['the context contains nothing to mount', ''],
  parameterNotServed: ['a file system is made from flags and strings only', 'give the parameter as a string'],
  tooManyContexts: [
    'all file system contexts that the container, or all containers together, may have are in use',
    'find the containers that call fsopen and stop there',
  ],
  mountsBusy: [
    'the container or the host has too many mounts in flight, the container mounts all the time, or processes that mount for it end again and again',
    "find the device that does not answer, or what kills processes in the container's control group",
  ],
  mountStuck: ['the mount did not end in time', 'find out why its device does not answer'],
  mounterEnded: [
    'the process that mounts ended before it was done',
    'if it cannot start, the standard error of intercede says why; a container that kills its control group or uses up its memory also ends it',
  ],
  cannotShift: [
    'the file system cannot be shown with the ids of the container',
    'set security.syscalls.intercept.mount.shift to false, or mount it by FUSE',
  ],
  groupsNotJoined: [
    "intercede could not join the caller's control groups, and mounts nothing without their device rules",
    "run intercede where it can write to the host's cgroup file systems",
  ],

  // Reasons of file systems that a FUSE program mounts.
  fuseByMount: ['a FUSE program mounts this type only for mount(2), which programs such as mount(8) try next', ''],
  fuseNoRuntime: [
    'the runtime that could start a FUSE program in the container is unknown',
    'start the container with crun or runc, on Linux 6.5 or later',
  ],
  fuseElsewhere: [
    'the caller has left the namespaces, root directory or label of the container, where its FUSE programs start',
    'mount it from a process that has not left them',
  ],
  fuseFilters: [
    'the caller has more seccomp filters than its container, and a FUSE program would not have them',
    'mount it from a process without filters of its own',
  ],
  fuseIds: [
    'the caller has several user or group ids at once, or one that its container does not map; no FUSE program can have these',
    'mount it from a process that is root in all of its ids',
  ],
  fuseNotText: ['the paths or options are not UTF-8, and the runtime accepts nothing else', ''],
  fuseNoDevice: ['the container has no /dev/fuse that it may open', 'start the container with --device /dev/fuse'],
  fuseNoProgram: [
    'the image of the container lacks the FUSE program {a:name}, which the policy names',
    "install it in the image, in the container's PATH",
  ],
  fuseNotInImage: [
    'the image of the container lacks the FUSE program {a:name}: the policy has its path in the image, never on the host',
    'install it in the image at this path, or name it without a path',
  ],
  fuseBusy: [
    'the container has too many FUSE programs, or too many are starting and its turn did not come in time',
    'try again, or unmount what you do not need',
  ],
  fuseFailed: [
    'the FUSE program ended with status {a}; its output is logged beside this',
    'try it by hand in the container',
  ],
  fuseNotMounted: [
    'the FUSE program ended without an error, and had not mounted anything on the target',
    'try it by hand in the container: what it prints may say why',
  ],
  fuseTimeout: ['the FUSE program had not mounted after 10 seconds, and was ended', 'try it by hand in the container'],

  // Reasons of sched_setscheduler(2) and its family.
  invalidArguments: ['the kernel rejects the arguments', ''],
  schedulingNotServed: [
    'the scheduling policy {a}, or a flag given with it, is not for containers',
    'use SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO or SCHED_RR',
  ],
  priorityTooHigh: [
    'the priority {a} is higher than {b}, the highest that the policy allows',
    'if the host can bear it, raise security.syscalls.intercept.sched_setscheduler.max_priority',
  ],
  niceTooLow: [
    'the nice value {a:int} is lower than {b:int}, the lowest that the policy allows',
    'if the host can bear it, lower security.syscalls.intercept.sched_setscheduler.min_nice',
  ],
  severalTasks: [
    'only one process or thread at a time is served, no process group and no user',
    'make the call for each process',
  ],
  scheduledByHost: [
    'the host, or an earlier policy, gave the task a scheduling policy or priority that the container cannot give, so it cannot change it',
    '',
  ],
  noSuchTask: ["there is no process or thread of this number in the caller's pid namespace", ''],
  outsideContainer: ['the process or thread of this number does not belong to the container', ''],
  pidNotTranslated: [
    'this kernel does not translate process numbers of a container',
    'use Linux 6.11 or later, or name the calling thread, or the first thread of its process',
  ],

  // Reasons of setrlimit(2) and prlimit64(2).
  limitNotRaised: ['the call raises no hard limit, so the kernel asks for no privilege', ''],
  limitTooHigh: [
    'the hard limit {a:limit} is above the highest that the policy allows, or not in its list',
    'if the host can bear it, list it in security.syscalls.intercept.rlimits.allowed',
  ],
  limitNeverServed: [
    'no policy can raise the limit {a:resource}: it counts for a whole user namespace, or permits priorities',
    'for priorities, use security.syscalls.intercept.sched_setscheduler',
  ],
  weLackCapability: [
    'intercede itself lacks CAP_{a:cap}',
    'run intercede where root has this capability; in a service, do not narrow CapabilityBoundingSet',
  ],

  // Reasons of bpf(2), and of BPF tokens.
  notDelegated: [
    '{b:delegated} is not in security.syscalls.intercept.bpf.{a:delegation}',
    'add it there, if the host can bear what the page about BPF tokens says',
  ],
  neverDelegated: [
    '{b:delegated} of {a:delegation} is not for containers: it traces or changes the kernel, reaches objects of others, or is unknown',
    'list in the mount options only what the container needs, and not "any"',
  ],
  notBpffs: ['the context is of no bpffs that is to be made, or the kernel has no tokens', 'use Linux 6.9 or later'],
  readsKernel: [
    'with CAP_{a:cap}, the holder of a BPF token could read all memory of the kernel',
    'drop CAP_SYS_ADMIN and CAP_PERFMON first: setpriv --bounding-set=-sys_admin,-perfmon COMMAND',
  ],
  tokenDecides: ['the kernel decides by the BPF token of the call, if it has one', ''],
  bpfMap: ['a map of bpf, which no device program needs; only root of the host can make one', ''],
  bpfCommand: ['the command {a} of bpf is not one for device programs', ''],
  bpfProgramType: ['a program of type {a}: only device programs of cgroups are served', ''],
  bpfAttachType: ['an attachment of type {a}: only device programs of cgroups are served', ''],
  bpfUnknownMember: ['byte {a} of the argument is beyond all known members', ''],
  bpfMember: [
    'the member at byte {a} of the argument must be zero: it would be looked up in intercede, not in the caller',
    'use no maps, no BTF and no tokens in a device program',
  ],
  bpfFlags: ['the flags {a} are not served for device programs', ''],
  bpfOldProgram: ['an old program is named without the flag BPF_F_REPLACE', ''],
  bpfTooLong: ['{a} instructions are too many for a device program: 4,096 are served', 'shorten the list of devices'],
  bpfInstruction: [
    'no device program needs instruction {a} (code {b}): a call, a map, or memory beyond its context and stack',
    'write the program with only arithmetic, jumps, and loads from its context',
  ],
  notOpen: ['the calling thread has no such descriptor open', ''],
  notOurs: ['this container has not loaded the program of this descriptor or number through intercede', ''],
  notAttached: ['that program is not attached to this cgroup', ''],
  notCgroup: ['the descriptor is not of a cgroup of the unified hierarchy', ''],
  removedCgroup: ["the descriptor's cgroup was removed", ''],
  noCgroup: [
    'the container is in no cgroup of the unified hierarchy that intercede can see',
    'mount cgroup2 on the host before the daemon starts, and start the container with a cgroup manager',
  ],
  rootCgroup: [
    'the container is in the root cgroup, which is not its own',
    'start the container with a cgroup manager, not with --cgroup-manager=disabled or --cgroups=disabled',
  ],
  sharedCgroup: ['the cgroup of the container also holds processes of others', 'give the container its own cgroup'],
  crowdedCgroup: ["the container's cgroup holds too many processes to check", 'spread them over groups below it'],
  ownCgroup: [
    'the cgroup is the one into which the runtime put the container, which cannot change its device rules',
    'make a cgroup below it',
  ],
  outsideCgroup: ["the cgroup is not below the container's", ''],
  loosens: [
    'a cgroup above has a device program without BPF_F_ALLOW_MULTI: one below would replace it instead of adding to it',
    'start the container with a runtime that attaches its device rules with BPF_F_ALLOW_MULTI, such as crun',
  ],
  tooManyPrograms: [
    'the container has too many device programs and links: 128 at once are served',
    'close or detach some',
  ],
} as const satisfies Readonly<Record<string, readonly [says: string, remedy: string]>>

export type ReasonCode = keyof typeof reasons
export interface Reason {
  readonly code: ReasonCode
  readonly a?: number
  readonly b?: number
}

/** The codes in the order of the table; a record has the index of a code. */
export const reasonCodes = Object.keys(reasons) as readonly ReasonCode[]

/** Makes a reason; each call makes at least one, so its members are not spread, which would cost time. */
export function why(code: ReasonCode, a?: number, b?: number): Reason {
  if (a === undefined) return { code }
  return b === undefined ? { code, a } : { code, a, b }
}

/** Returns the sentence and the remedy of a reason, with its numbers; the remedy is empty where none is needed. */
export function explain({ code, a = 0, b = 0 }: Reason): { readonly says: string; readonly remedy: string } {
  const places: Readonly<Record<string, () => string>> = {
    a: () => String(a),
    b: () => String(b),
    'a:int': () => String(a | 0),
    'b:int': () => String(b | 0),
    'a:cap': () => capabilities[a] ?? String(a),
    'a:key': () => (keyNames[a] === undefined ? String(a) : fullName(keyNames[a])),
    'a:name': () => unpackName(a, b),
    'a:attribute': () => unpackAttribute(a, b),
    'a:resource': () => limitName(a),
    'a:limit': () => unpackLimit(a, b),
    'a:delegation': () => delegations[a]?.option ?? String(a),
    'b:delegated': () => delegations[a]?.names[b] ?? `the value of bit ${b}`,
    'a:errno': () => errnoName(a),
    'b:reason': () => reasonCodes[b] ?? String(b),
  }
  const filledIn = filled(code, (place) => places[place]?.())
  const gives = code === 'deviceNotAllowed' ? givenHere(a, b) : undefined
  return gives === undefined
    ? filledIn
    : { ...filledIn, remedy: `no key allows it, since it would give the container ${gives}` }
}

/** Returns the same for a reason that no call has: words in capitals stand for its numbers. */
export const explainInGeneral = (code: ReasonCode): ReturnType<typeof explain> =>
  filled(code, (place) =>
    (/^[ab](?::int)?$/.test(place) ? place[0]! : place === 'a:key' ? 'key' : 'name').toUpperCase(),
  )

function filled(code: ReasonCode, shown: (place: string) => string | undefined): ReturnType<typeof explain> {
  // One pass: a name of a container that looks like a place stays as it is.
  const fill = (text: string): string => text.replaceAll(/\{([a-z:]+)\}/g, (whole, place) => shown(place) ?? whole)
  const [says, remedy] = reasons[code]
  return { says: fill(says), remedy: fill(remedy) }
}
