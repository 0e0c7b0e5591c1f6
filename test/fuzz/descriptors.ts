import { isContained, link, list, processes, read } from './processes.ts'

/** What the hostile program gets from its calls, and what FUSE programs open; it makes no sockets, pidfds or memfds. */
const GIVEN = /^anon_inode:(\[fscontext\]|bpf-prog|bpf_link|\[fuse\])$/
const ANONYMOUS = /^(anon_inode:|socket:|\/memfd:|net:|mnt:|user:|pid:|cgroup:)/
/** A runtime that starts a FUSE program is inside for a moment, with descriptors of its own. */
const RUNTIMES = /crun|runc|^\/$|^$/
const O_ACCMODE = 3
const O_CLOEXEC = 0o2000000
/** Who calls gets descriptors with its answers. */
const CALLER = /fuzz-calls/
/** Input, output and error. */
const FIRST = 3

/**
 * The descriptors of these processes that only the engine or the host can have opened.
 *
 * @param foreign the numbers of mounts that are not the container's
 */
export function descriptors(pids: readonly string[], foreign: ReadonlySet<number>): string[] {
  return pids.flatMap((pid) => {
    const program = link(`/proc/${pid}/exe`)
    if (RUNTIMES.test(program)) return []
    return list(`/proc/${pid}/fd`).flatMap((fd) => {
      const what = link(`/proc/${pid}/fd/${fd}`)
      const info = read(`/proc/${pid}/fdinfo/${fd}`)
      // It may be closed by now, or the process has become another program.
      if (link(`/proc/${pid}/exe`) !== program || Number(fd) < FIRST || !isForeign(what, info, foreign)) return []
      // Of a program that was executed: its own, or it has become that program just now and closes what it had before, which
      // takes long where tasks of a higher priority spin (linux/fs/exec.c begin_new_exec()).
      if (!CALLER.test(program) && ((flagsIn(info) & O_CLOEXEC) !== 0 || isOwnPipe(what))) return []
      return [`${program} has ${fd}: ${what} ${info.replaceAll('\n', ' ')}`]
    })
  })
}

/** libfuse has one for a moment while a program becomes a daemon (fuse_daemonize()): nobody else has an end of it. */
const isOwnPipe = (what: string): boolean =>
  what.startsWith('pipe:') &&
  !processes().some(
    (pid) => !isContained(pid) && list(`/proc/${pid}/fd`).some((fd) => link(`/proc/${pid}/fd/${fd}`) === what),
  )

function isForeign(what: string, info: string, foreign: ReadonlySet<number>): boolean {
  const mount = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1] ?? 0)
  if (foreign.has(mount)) return true
  // The reading end of a pipe stands for a device program.
  if (what.startsWith('pipe:')) return (flagsIn(info) & O_ACCMODE) !== 0
  return ANONYMOUS.test(what) && !GIVEN.test(what)
}

const flagsIn = (info: string): number => Number.parseInt(/^flags:\s*(\d+)$/m.exec(info)?.[1] ?? '0', 8)
