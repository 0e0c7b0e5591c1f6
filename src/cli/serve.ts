import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Command } from 'commander'
import { serve } from '../daemon/serve.ts'
import { requireKernel } from '../kernel/require.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { describeConfig } from './check-config.ts'

const SOCKET = '/run/intercede/oci.sock'

interface Options {
  readonly config?: string
  readonly socket: string
  readonly lxcSocket?: string
  readonly checkConfig?: true
}

export const command = new Command('serve')
  .description('the daemon: serves the containers that runtimes hand over')
  .option('--config <file>', 'YAML with default, profiles, annotations, log and limits')
  .option('--socket <path>', 'where runtimes connect: listenerPath of the profile', SOCKET)
  .option('--lxc-socket <path>', 'where LXC connects: lxc.seccomp.notify.proxy (default: lxc.sock beside the other)')
  .option('--check-config', 'serve nothing, but say what the configuration means: every effective key of each profile')
  .addHelpText(
    'after',
    `
Without --config only what a container's own profile brings along is done (see intercede profile).
A configuration file, all of it optional:

  default:                            # for every container
    security.syscalls.intercept.mknod: true
  profiles:                           # chosen by profile=NAME in listenerMetadata, or LXC's cookie
    vpn:
      security.syscalls.intercept.mknod.devices: c:10:200
  annotations:
    profiles: [vpn]                   # what a container's annotations may choose
    raise: []                         # keys that they may set; all others they may only lower
  log: { level: info }                # debug, info, warn, error
  limits: { callsPerContainer: 3 }    # in flight at once

It logs one JSON object a line on standard error, and ends on SIGTERM and SIGINT.`,
  )
  .action(main)

async function main({ config: file, socket, lxcSocket, checkConfig }: Options): Promise<void> {
  const config = file === undefined ? parseConfig('', '') : readConfig(file)
  if (checkConfig) {
    process.stdout.write(`${describeConfig(config).join('\n')}\n`)
    return
  }
  requireKernel()
  await serve({ socketPath: socket, lxcSocketPath: lxcSocket ?? join(dirname(socket), 'lxc.sock') }, config)
}

function readConfig(file: string): Config {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new Error(`Cannot read configuration "${file}": ${(error as Error).message}`)
  }
  return parseConfig(text, file)
}
