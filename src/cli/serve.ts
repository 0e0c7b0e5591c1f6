import { dirname, join, resolve } from 'node:path'
import { requireFeatures } from '../doctor/doctor.ts'
import { requireSafeDirectories, requireSafeFiles } from '../doctor/own-files.ts'
import { FORMAT } from '../keeper/persist/persisted-state.ts'
import { historyOf, serve } from '../keeper/serve.ts'
import { exitGroup } from '../kernel/process.ts'
import type { Config } from '../policy/config.ts'
import { requireWhole } from '../processes/build-id.ts'
import { HISTORY } from '../processes/installation.ts'
import { requireKernel, requireProcfs, requireUserNamespace } from '../processes/requirements.ts'
import { describeConfig, requireProfilesInUse } from './check-config.ts'
import { configFile, configFileIfThere, SOCKET, userSocket } from './paths.ts'
import { print, say } from './print.ts'
import { asAnswer, checkUsage, sentence, statusFor } from './usage.ts'
import { readConfiguration } from './wanted-policy.ts'

interface ServeOptions {
  readonly config?: string
  readonly user?: boolean
  readonly socket?: string
  readonly lxcSocket?: string
  readonly feedSocket?: string
  readonly controlSocket?: string
  readonly checkConfig?: true
  readonly takesOver?: string
}

export async function serveCommand({
  config: named,
  checkConfig,
  takesOver,
  user = false,
  ...sockets
}: ServeOptions): Promise<void> {
  // The program that is to take over is given all words of the running one. feed.sock names a daemon to look at.
  const { feedSocket: _, ...served } = sockets
  const [useless] = checkConfig && takesOver === undefined ? Object.keys(served) : []
  checkUsage(
    useless === undefined,
    `Cannot use --${useless?.replace('Socket', '-socket')} with --check-config: it serves nothing; leave it out, and name the daemon whose containers would have that configuration with --feed-socket`,
  )
  checkUsage(
    !user || sockets.controlSocket === undefined,
    "Cannot use --control-socket with --user: root of that user's containers could connect; send SIGHUP to reload",
  )
  const fileNow = (): string | undefined => named ?? configFileIfThere(user)
  const file = fileNow()
  const answer = checkConfig ? asAnswer : <T>(find: () => T): T => find()
  const config = answer(() => readConfiguration(file))
  if (takesOver !== undefined || !checkConfig) requireProcfs()
  if (takesOver !== undefined) requireSuccessor(takesOver)
  const places = socketsOf(sockets, user)
  answer(() => requireSafe(file, places))
  const historyPath = usualHistory(process.env.STATE_DIRECTORY, user || sockets.socket !== undefined)
  if (checkConfig) {
    const asked =
      takesOver === undefined ? asAnswer(() => requireProfilesInUse(config, file, places.feedSocketPath)) : []
    const none = file === undefined ? [`# no configuration: ${JSON.stringify(configFile(user))} is not there`] : []
    print(
      `${[...none, ...asked, ...describeConfig(config, user, historyOf(config, { historyPath, forUser: user }))].join('\n')}\n`,
    )
    return
  }
  requireUserNamespace(user)
  requireKernel()
  requireFeatures()
  const paths = { ...places, forUser: user, configPath: resolve(named ?? configFile(user)), historyPath }
  const readAgain = (): Config => {
    const now = fileNow()
    const again = readConfiguration(now)
    requireSafe(now, places)
    return again
  }
  await serve(paths, config, readAgain).catch(endWith)
}

/** Returns where history is kept: where systemd says, or the daemon that serves the usual sockets. */
const usualHistory = (given: string | undefined, isOther: boolean): string | undefined =>
  given?.split(':')[0] || (isOther ? undefined : HISTORY)

/** @throws {Error} if others can change the program or the configuration, or exchange the sockets */
function requireSafe(file: string | undefined, places: ReturnType<typeof socketsOf>): void {
  requireSafeFiles(file === undefined ? [] : [file])
  requireSafeDirectories(Object.values(places).map((path) => dirname(path)))
}

/** @throws {UsageError} if two of them are the same */
function socketsOf(
  given: ServeOptions,
  user: boolean,
): Omit<Parameters<typeof serve>[0], 'forUser' | 'configPath' | 'historyPath'> {
  const socketPath = given.socket ?? (user ? userSocket() : SOCKET)
  const beside = (name: string): string => join(dirname(socketPath), name)
  // The containers of an unprivileged LXC user are not in a user namespace below ours, so there is no socket for them.
  const lxc = given.lxcSocket ?? (user ? undefined : beside('lxc.sock'))
  const feedSocketPath = given.feedSocket ?? beside('feed.sock')
  const control = given.controlSocket ?? (user ? undefined : beside('control.sock'))
  const at = (path: string, others: readonly unknown[], why: string): void =>
    checkUsage(!others.includes(path), `Cannot serve on "${path}" twice: ${why} a path of its own`)
  at(feedSocketPath, [socketPath, lxc], 'readers and runtimes speak differently; give --feed-socket')
  at(socketPath, [lxc], 'runtimes and LXC speak differently; give --lxc-socket')
  at(control ?? '', [socketPath, lxc, feedSocketPath], 'who gives orders speaks differently; give --control-socket')
  return {
    socketPath,
    feedSocketPath,
    ...(lxc === undefined ? {} : { lxcSocketPath: lxc }),
    ...(control === undefined ? {} : { controlSocketPath: control }),
  }
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
