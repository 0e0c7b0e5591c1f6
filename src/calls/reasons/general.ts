import type { Sentences } from './sentences.ts'

/** Reasons that any call may have. */
export const general = {
  done: ['done for the caller', ''],
  kernelAnswered: ['done as the caller: the kernel itself answered with this errno', ''],
  adopted: ['done before a signal interrupted the call, which then came again', ''],
  keyOff: [
    'the key {a:key} is off for this container',
    'switch it on where it was switched off: the first log line of the container says where',
  ],
  notServed: ['this version does not serve this call yet', 'leave its key off: trapping it only costs time'],
  lacksCapability: [
    'the caller lacks CAP_{a:cap} in its user namespace',
    'run it as the container root, and start the container with --cap-add {a:cap}',
  ],
  childUserns: [
    'the caller is in a child user namespace of the container, whose capabilities give nothing',
    'make the call from the initial user namespace of the container',
  ],
  hostUserns: [
    'the container has no user namespace of its own',
    'start it with --userns=auto (podman), --userns-remap (Docker), hostUsers: false (Kubernetes) or lxc.idmap (LXC)',
  ],
  userDaemon: [
    'intercede runs for a user here (serve --user), and the kernel lets only root of the host do this',
    'have the administrator run intercede serve, and start the container as root with a user namespace of its own',
  ],
  foreignUserns: [
    'the user namespace of the container is not a direct child of that of intercede',
    'run intercede in the user namespace in which the runtime runs',
  ],
  unclearUserns: [
    'the init of the container is not in the user namespace that owns its pid namespace, so which one it began in is unclear',
    'start the container with a pid namespace of its own, and leave its init in its first user namespace',
  ],
  policyInvalid: [
    'the metadata of the container, or the profile of the configuration that it names, is invalid; the log line "Cannot use the policy" says why',
    'correct the metadata and start the container again, or correct the configuration and reload the service, which reaches the running container',
  ],
  unknownContainer: [
    'the container was started before this daemon, or its hand-over failed',
    'start the container again',
  ],
  invisibleCaller: [
    'the caller is not visible in the pid namespace of intercede',
    'run intercede in the host pid namespace',
  ],
  gone: ['the caller died or was interrupted before the answer', ''],
  tooManyGroups: [
    'the caller has more than {a} supplementary groups, which to read and take on for each call would keep others waiting',
    'make the call from a process with fewer groups',
  ],
  unreadable: ['the arguments cannot be read from the memory of the caller', ''],
  lookFailed: ['a look at the caller or its files failed with errno {a}, so the kernel judges it alone', ''],
  notWritten: ['the result could not be written to the memory of the caller: looking at it failed with errno {a}', ''],
  containerBusy: [
    'too many calls of all containers hang in their file systems, or LXC has forwarded too many of this one at once',
    'find the containers whose calls are logged late, and what hangs there',
  ],
  engineFailed: ['the engine fails with such calls', 'please report it with the log lines before'],
  engineEnded: ['an engine ended when it had answered the call, or the caller died or was interrupted just then', ''],
  noEngine: [
    'engines of intercede fail all the time, so calls are left to the kernel until the next one is tried',
    'see why in its log: journalctl -u intercede -p err',
  ],
  unsettled: ['the engine ended in the middle of the act, and what it did cannot be told', ''],
  otherThread: [
    'before Linux 6.9 the descriptors of a thread that is not the first of its process cannot be looked at',
    'make the call from the main thread',
  ],
  fault: ['a fault of intercede itself', 'please report it with the log line'],
} as const satisfies Sentences
