import { existsSync } from 'node:fs'
import { SIGKILL, SIGTERM } from '../abi/process.ts'
import { MSG_DONTWAIT } from '../abi/socket.ts'
import { shownJson } from '../calls/escape.ts'
import { ordererAt } from '../keeper/control/control-socket.ts'
import { orElse, orUndefined } from '../kernel/error.ts'
import { pidfdOpen, signalTo } from '../kernel/pidfd.ts'
import { startTime } from '../kernel/process.ts'
import { connectDatagram, send, waitReadable } from '../kernel/socket.ts'
import { findRuns, openRun, type Run } from '../reader/runs.ts'
import { briefly } from '../shared/texts.ts'
import { askDaemon, controlSocket, nameOurselves } from './ask-daemon.ts'
import { print, say } from './print.ts'
import { checkUsage, NegativeAnswer } from './usage.ts'

interface StopOptions {
  readonly kill?: true
  readonly control?: string
}

/** Limit of the wait; `run` kills what does not end by itself after its own limit. */
const PATIENCE_MS = 120_000

/** Only root can give a run its name, so a name is as good as an id. */
function isNamed(run: Run, name: string): boolean {
  using feed = openRun(run)
  return feed?.directory.container(0)?.name === name
}

function requireRun(runs: readonly Run[], word: string): Run {
  const found = runs.filter(({ id, pid }) => id === word || `${pid}` === word)
  // A whole pid only: the id of another run may begin with the digits of one that has ended.
  const isPid = /^\d+$/.test(word)
  const [run, ...others] =
    found.length > 0 ? found : runs.filter((each) => (!isPid && each.id.startsWith(word)) || isNamed(each, word))
  if (others.length > 0)
    throw new NegativeAnswer(
      `Cannot stop ${briefly(word)}: several have that name, or an id that begins with it; give the whole id`,
    )
  if (run) return run
  throw new NegativeAnswer(
    `Cannot stop ${briefly(word)}: no container of "intercede run" has that id or name; "intercede ps" lists them, and a run without a key has only a pid. Stop any other container with the tool that started it`,
  )
}

const LOG = '/dev/log'
/** LOG_DAEMON and LOG_NOTICE of syslog(3). */
const PRIORITY = (3 << 3) | 5

/** Records who orders the end of a run, in history and log of the daemon, or without one in the log of the machine. */
function record(container: string, signal: number, control: string): void {
  const order = { type: 'stop', container, signal: signal === SIGKILL ? 'SIGKILL' : 'SIGTERM' } as const
  try {
    if (existsSync(control)) {
      askDaemon(control, order)
      return
    }
  } catch (error) {
    say(`${(error as Error).message}; so history does not say who ends ${container}`)
  }
  nameOurselves()
  orElse(undefined, () => {
    using log = connectDatagram(LOG)
    const text = shownJson({ ...order, who: ordererAt(process.pid) })
    send(log, Buffer.from(`<${PRIORITY}>intercede[${process.pid}]: ${text}`), [], MSG_DONTWAIT)
  })
}

function stop({ id, pid, started }: Run, signal: number, control: string): void {
  using pidfd = orUndefined(['ESRCH'], () => pidfdOpen(pid))
  // It has ended, and its number may be another's by now.
  if (!pidfd || startTime(pid) !== started) return
  record(id, signal, control)
  signalTo(pidfd, signal)
  if (!waitReadable(pidfd, PATIENCE_MS))
    throw new Error(`Cannot stop ${id}: it still runs after ${PATIENCE_MS / 1000} s; use --kill`)
}

export function stopCommand(words: readonly string[], { kill, control }: StopOptions): void {
  checkUsage(
    words.every((word) => word !== ''),
    'Cannot stop "": that is no id; "intercede ps" lists them',
  )
  const all = findRuns()
  if (process.getuid?.() !== 0) throw new Error('Cannot stop a container: only root may; use sudo')
  const ended: string[] = []
  try {
    for (const run of new Set(words.map((word) => requireRun(all, word)))) {
      stop(run, kill ? SIGKILL : SIGTERM, controlSocket(control))
      ended.push(run.id)
    }
  } finally {
    // At the end: a reader that has gone ends us.
    print(ended.map((id) => `${id}\n`).join(''))
  }
}
