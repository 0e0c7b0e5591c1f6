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
import { OwnCaps } from '../processes/own-caps.ts'
import { enterOwnMounts } from '../processes/own-mounts.ts'
import { processCaps } from '../processes/process-caps.ts'
import { programFiles } from '../processes/program-files.ts'
import { reply, serveRequests } from '../processes/serve-requests.ts'
import { hierarchies, NotJoined } from './join-cgroups.ts'
import { MountLocker } from './mount-locker.ts'
import { MountWorker } from './mount-worker.ts'

/**
 * A mounter: a process of the host in which file systems are mounted for callers, one at a time, since that may hang in the
 * kernel and must stand in the caller's control groups. It holds nothing of a container between two requests. When it
 * hangs it is left alone, and ends when it comes back.
 */
const REPLACED_MS = 10_000

Error.stackTraceLimit = 0
// The files were replaced while we were started: the keeper sees that soon, ends the engine, and the next one does the mount.
// A caller that waits for us must not be told before that it has failed.
if (process.argv[2] !== build) await sleep(REPLACED_MS)
requireBuild(process.argv[2])
const caps = new OwnCaps(processCaps.mounter)
caps.enter('start')
enterOwnMounts(['/proc', ...hierarchies(), ...programFiles(MountLocker.programs)])
mount('tmpfs', '/run', 0n, 'mode=0755,size=64k')
const home = {
  root: openat(AT_FDCWD, cstring('/'), O_PATH | O_DIRECTORY),
  mounts: openat(AT_FDCWD, cstring('/proc/self/ns/mnt'), O_RDONLY),
}
const mounting = new MountWorker(home, await MountLocker.open(home.mounts))
caps.rest()

function replyTo(error: unknown): MounterReply {
  if (error instanceof MountRefused) return { errno: error.errno, stage: error.stage }
  if (error instanceof NotJoined) return { errno: errnos.EPERM, stage: 'groups' }
  if (error instanceof SyscallError) return { errno: error.errno }
  // It may stand anywhere: whoever waits sees the end of the socket.
  return exitGroup(1)
}

function serve(request: MounterRequest, [answers, ...handles]: readonly Fd[]): void {
  let said: MounterReply = { errno: 0 }
  let made: readonly Fd[] = []
  try {
    made = caps.during(request.do, () => mounting.serve(request, handles))
  } catch (error) {
    said = replyTo(error)
  }
  // Before the answer: what we hold of a mount would keep the caller from unmounting it.
  for (const handle of handles) handle[Symbol.dispose]()
  reply<MounterReply>(answers!, said, made)
  for (const fd of made) fd[Symbol.dispose]()
}

await serveRequests(serve)
