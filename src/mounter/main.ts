import '../processes/program-flags.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnos } from '../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { type MounterReply, type MounterRequest, MountRefused } from '../caller/mounts/mounter-client.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { openat } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { mount } from '../kernel/mount.ts'
import { exitGroup } from '../kernel/process.ts'
import { build, requireBuild } from '../processes/build-id.ts'
import { reply, serveRequests } from '../processes/helper.ts'
import { enterOwnMounts } from '../processes/own-mounts.ts'
import { OwnCaps, processCaps } from '../processes/process-caps.ts'
import { programFiles } from '../processes/program-files.ts'
import { hierarchies, NotJoined } from './join-cgroups.ts'
import { MountLocker } from './mount-locker.ts'
import { MountWorker } from './mount-worker.ts'

/**
 * The entry of a mounter: a process of the host that mounts file systems for one caller at a time, since mount(2) may
 * hang and must run in the caller's cgroups. It keeps nothing of a container between two requests. A mounter that
 * hangs is abandoned, and ends when its mount(2) returns.
 */

/** How long a mounter waits before it gives up if its files were replaced, in milliseconds. */
const REPLACED_MS = 10_000

const caps = new OwnCaps(processCaps.mounter)

async function start(): Promise<MountWorker> {
  // The program files were replaced while this process was started. The keeper notices that soon and ends the engine,
  // and the next engine does the mount; until then the waiting caller must not get an error.
  if (process.argv[2] !== build) await sleep(REPLACED_MS)
  requireBuild(process.argv[2])
  caps.enter('start')
  enterOwnMounts(['/proc', ...hierarchies(), ...programFiles(MountLocker.programs)])
  mount('tmpfs', '/run', 0n, 'mode=0755,size=64k')
  const home = {
    root: openat(AT_FDCWD, cstring('/'), O_PATH | O_DIRECTORY),
    mounts: openat(AT_FDCWD, cstring('/proc/self/ns/mnt'), O_RDONLY),
  }
  const mounting = new MountWorker(home, MountLocker.open(home.mounts), caps)
  caps.rest()
  return mounting
}

function replyTo(error: unknown): MounterReply {
  if (error instanceof MountRefused) return { errno: error.errno, stage: error.stage }
  if (error instanceof NotJoined) return { errno: errnos.EPERM, stage: 'groups' }
  if (error instanceof SyscallError) return { errno: error.errno }
  // What a function of Node throws for the kernel is an answer as well: it has come home from wherever it was, as after
  // an error of ours.
  const { errno = 0, syscall } = error as NodeJS.ErrnoException
  if (syscall !== undefined && errno < 0) return { errno: -errno }
  // This process may be in any namespace now, so it ends; the engine sees the end of the socket.
  return exitGroup(1)
}

function serve(mounting: MountWorker, request: MounterRequest, [answers, ...handles]: readonly Fd[]): void {
  let answer: MounterReply = { errno: 0 }
  let made: readonly Fd[] = []
  try {
    made = caps.during(request.do, () => mounting.serve(request, handles))
  } catch (error) {
    answer = replyTo(error)
  }
  // These are closed before the answer, since an open handle of a mount would keep the caller from unmounting it.
  for (const handle of handles) handle[Symbol.dispose]()
  reply<MounterReply>(answers!, answer, made)
  for (const fd of made) fd[Symbol.dispose]()
}

Error.stackTraceLimit = 0
start().then((mounting) => serveRequests((...request: [MounterRequest, readonly Fd[]]) => serve(mounting, ...request)))
