/** What to do about errors of the kernel that have nothing to do with us. */
const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: 'run it as root of the host, with sudo',
  EPERM: 'run it as root of the host, with sudo',
  EROFS: 'make that file system writable',
  ENOSPC: 'make room there',
  EDQUOT: 'make room there',
  EFBIG: 'allow larger files with "ulimit -f unlimited"',
  EMFILE: 'allow more open files with "ulimit -n 1024"',
  ENFILE: 'end programs that hold many files open',
  EAGAIN: 'allow more processes with "ulimit -u"',
  ENOMEM: 'give it more memory',
}

/** What each command does, after "Cannot". */
const DOES: Readonly<Record<string, string>> = {
  run: 'run the command',
  serve: 'serve',
  profile: 'make the profile',
  flags: 'say what to tell the runtime',
  doctor: 'look at this machine',
  set: 'set keys',
  reload: 'reload',
  stop: 'stop the container',
  metrics: 'print metrics',
  api: 'answer',
}

const remedyFor = (message: string): string =>
  REMEDIES[/\bE[A-Z]{3,}\b/.exec(message)?.[0] ?? ''] ?? '"intercede doctor" says what this machine lacks'

/** Returns the sentence for an error. What the kernel or Node says alone tells nobody what could not be done. */
export function sentence({ message }: Error, command = ''): string {
  if (message.startsWith('Cannot ')) return message
  return `Cannot ${DOES[command] ?? 'go on'}: ${message}; ${remedyFor(message)}`
}
