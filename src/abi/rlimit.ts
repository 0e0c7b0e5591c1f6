/** The lines of `/proc/PID/limits` and what `RLIMIT_` calls them, linux/fs/proc/base.c lnames. */
const names: Readonly<Record<string, string>> = {
  'Max cpu time': 'CPU',
  'Max file size': 'FSIZE',
  'Max data size': 'DATA',
  'Max stack size': 'STACK',
  'Max core file size': 'CORE',
  'Max resident set': 'RSS',
  'Max processes': 'NPROC',
  'Max open files': 'NOFILE',
  'Max locked memory': 'MEMLOCK',
  'Max address space': 'AS',
  'Max file locks': 'LOCKS',
  'Max pending signals': 'SIGPENDING',
  'Max msgqueue size': 'MSGQUEUE',
  'Max nice priority': 'NICE',
  'Max realtime priority': 'RTPRIO',
  'Max realtime timeout': 'RTTIME',
}

export interface ResourceLimit {
  /** `RLIMIT_NOFILE` and the like. */
  readonly type: string
  readonly soft: bigint
  readonly hard: bigint
}

/** RLIM_INFINITY. */
const UNLIMITED = 2n ** 64n - 1n
const amount = (text: string): bigint => (text === 'unlimited' ? UNLIMITED : BigInt(text))

/** @see proc_pid_limits(5) */
export function parseLimits(text: string): readonly ResourceLimit[] {
  return text.split('\n').flatMap((line) => {
    const [, name = '', soft = '', hard = ''] = /^(Max(?: [a-z]+)+) {2,}(\w+) +(\w+)/.exec(line) ?? []
    const type = names[name]
    return type === undefined ? [] : [{ type: `RLIMIT_${type}`, soft: amount(soft), hard: amount(hard) }]
  })
}
