import { dirname, join } from 'node:path'
import { requireSafeFiles } from '../doctor/own-files.ts'
import { FORMAT } from '../keeper/persist/persisted-state.ts'
import { serve } from '../keeper/serve.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { requireWhole } from '../processes/build-id.ts'
import { requireKernel, requireProcfs, requireUserNamespace } from '../processes/requirements.ts'
import { describeConfig } from './check-config.ts'
import { configFileIfThere } from './config-file.ts'
import { readConfiguration } from './daemon-config.ts'
import { print } from './print.ts'
import { SOCKET, userSocket } from './sockets.ts'
import { asAnswer, mustBe } from './usage.ts'

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
  await serve(
    { socketPath: ociSocket, feedSocketPath, ...(lxcSocketPath === undefined ? {} : { lxcSocketPath }), forUser: user },
    config,
  )
}

/** @throws {Error} if we cannot take over the state of the running daemon, which has this format */
function requireSuccessor(format: string): void {
  requireWhole()
  if (format !== String(FORMAT))
    throw new Error(`Cannot take over from a program that stores format ${format}, not ${FORMAT}: restart it instead`)
}
