import { Command, Option } from 'commander'
import { openToOthers } from '../doctor/own-files.ts'
import { exitGroup } from '../kernel/process.ts'
import { ociRuntimes } from '../runtimes/known/index.ts'
import { launch } from '../runtimes/launch/launch.ts'
import { Refusals } from './refusals.ts'
import { collect, parseEnv, parseName, parseSize, parseUser, parseWorkdir } from './run-options.ts'
import { interception } from './run-policy.ts'
import { mustBe, statusFor } from './usage.ts'

interface Options {
  readonly config?: readonly string[]
  readonly rootfs?: string
  readonly exposeHost?: boolean
  readonly bind?: readonly string[]
  readonly device?: readonly string[]
  readonly memory?: number
  readonly net: 'none' | 'host'
  readonly runtime?: string
  readonly name?: string
  readonly env?: readonly string[]
  readonly workdir?: string
  readonly user?: { readonly uid: number; readonly gid: number }
  readonly quiet?: boolean
}

/** Lines that are printed at the end, since the terminal is the container's during the run. */
type Notes = string[]

async function run(command: readonly string[], options: Options, notes: Notes): Promise<number> {
  const { config = [], bind: binds, device: asked = [], runtime: wanted, quiet, ...rest } = options
  mustBe(
    rest.rootfs === undefined || !rest.exposeHost,
    'Cannot use --expose-host with --rootfs: that is no part of the host; leave one of them out',
  )
  const wrong = openToOthers()
  if (wrong !== undefined) notes.push(wrong)
  const refusals = new Refusals()
  const say = (text: string): void => void notes.push(text)
  const { hints, ...intercepted } = interception(config, refusals, say)
  const devices = [...new Set([...(intercepted.devices ?? []), ...asked])]
  const runtime = ociRuntimes.find(({ name }) => name === wanted)
  const status = await launch({ ...rest, ...intercepted, runtime, binds, devices, command, say })
  if (!quiet) notes.push(...refusals.lines(), ...((status !== 0 && hints?.()) || []))
  return status
}

/** Runs the command and exits by exit_group: a thread that waits in the kernel would block any other exit. */
async function main(words: readonly string[], options: Options): Promise<never> {
  const notes: Notes = []
  const leave = (status: number): never => {
    for (const note of notes) process.stderr.write(`intercede: ${note}\n`)
    return exitGroup(status)
  }
  try {
    return leave(await run(words, options, notes))
  } catch (error) {
    notes.push((error as Error).message)
    return leave(statusFor(error))
  }
}

const names = ociRuntimes.map(({ name }) => name)

export const command = new Command('run')
  .description(
    "Run a command in a container of its own, by default over the host's file systems, thrown away at the end",
  )
  .argument('<command...>', 'the command with its arguments')
  .passThroughOptions()
  .option(
    '-c, --config <key=value>',
    'a key of security.syscalls.intercept.*, or its short form such as "mknod"',
    collect,
  )
  .option('--rootfs <dir>', "the container's root, instead of the host's file systems")
  .option('--expose-host', "let the container's root read every file of the host")
  .option('--bind <dir[:dir][:ro]>', 'show a directory of the host', collect)
  .option('--device <path[:path]>', 'allow a device of the host', collect)
  .option('--memory <size>', 'the most memory that it may use, such as 512m', parseSize)
  .addOption(new Option('--net <mode>', 'its network').choices(['none', 'host']).default('none'))
  .addOption(new Option('--runtime <name>', `the OCI runtime (default: ${names.join(', else ')})`).choices(names))
  .option('--name <name>', 'its host name', parseName)
  .option('--env <key=value>', 'a variable of its environment; a KEY alone is passed on', parseEnv)
  .option('--workdir <dir>', 'where the command starts', parseWorkdir)
  .option('--user <uid[:gid]>', 'as whom the command starts', parseUser)
  .option('--quiet', 'do not say at the end what was refused')
  .action(main)
