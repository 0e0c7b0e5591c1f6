import { dirname, join } from 'node:path'
import { requireSafeFiles } from '../doctor/own-files.ts'
import { FORMAT } from '../keeper/persist/persisted-state.ts'
import { serve } from '../keeper/serve.ts'
import { exitGroup } from '../kernel/process.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { requireWhole } from '../processes/build-id.ts'
import { requireKernel, requireProcfs, requireUserNamespace } from '../processes/requirements.ts'
import { describeConfig } from './check-config.ts'
import { configFileIfThere } from './config-file.ts'
import { readConfiguration } from './daemon-config.ts'
import { print, say } from './print.ts'
import { sentence } from './sentence.ts'
import { SOCKET, userSocket } from './sockets.ts'
import { asAnswer, mustBe, statusFor } from './usage.ts'

interface ServeOptions {
  readonly config?: string
  readonly user?: boolean
  readonly socket?: string
  readonly lxcSocket?: string
  readonly feedSocket?: string
  readonly checkConfig?: true
  readonly takesOver?: string
}

export async function serveCommand({
  config: given,
  checkConfig,
  takesOver,
  user = false,
  ...sockets
}: ServeOptions): Promise<void> {
  // The program that is to take over is given all words of the running one.
  const [useless] = checkConfig && takesOver === undefined ? Object.keys(sockets) : []
  mustBe(
    useless === undefined,
    `Cannot use --${useless?.replace('Socket', '-socket')} with --check-config: it serves nothing; leave it out`,
  )
  const file = given ?? configFileIfThere(user)
  const read = (): Config => (file === undefined ? parseConfig('', '') : readConfiguration(file))
  const config = checkConfig ? asAnswer(read) : read()
  if (takesOver !== undefined || !checkConfig) requireProcfs()
  if (takesOver !== undefined) requireSuccessor(takesOver)
  if (takesOver !== undefined || !checkConfig) requireSafeFiles(file === undefined ? [] : [file])
  if (checkConfig) {
    print(`${describeConfig(config, user).join('\n')}\n`)
    return
  }
  requireUserNamespace(user)
  requireKernel()
  const ociSocket = sockets.socket ?? (user ? userSocket() : SOCKET)
  // The containers of an unprivileged LXC user are not in a user namespace below ours, so there is no socket for them.
  const lxcSocketPath = sockets.lxcSocket ?? (user ? undefined : join(dirname(ociSocket), 'lxc.sock'))
  const feedSocketPath = sockets.feedSocket ?? join(dirname(ociSocket), 'feed.sock')
  mustBe(
    ![ociSocket, lxcSocketPath].includes(feedSocketPath),
    `Cannot serve on "${feedSocketPath}" twice: readers and runtimes speak differently; give --feed-socket a path of its own`,
  )
  mustBe(
    ociSocket !== lxcSocketPath,
    `Cannot serve on "${ociSocket}" twice: runtimes and LXC speak differently; give --lxc-socket a path of its own`,
  )
  const lxc = lxcSocketPath === undefined ? {} : { lxcSocketPath }
  await serve({ socketPath: ociSocket, feedSocketPath, ...lxc, forUser: user }, config).catch(endWith)
}

/** Ends at once: what a keeper has made before it failed would keep the process alive. */
function endWith(error: Error): never {
  say(sentence(error, 'serve'))
  return exitGroup(statusFor(error))
}

/** @throws {Error} if we cannot take over the state of the running daemon, which has this format */
function requireSuccessor(format: string): void {
  requireWhole()
  if (format !== String(FORMAT))
    throw new Error(`Cannot take over from a program that stores format ${format}, not ${FORMAT}: restart it instead`)
}
