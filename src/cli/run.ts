import { Command, Option } from 'commander'
import { openToOthers } from '../doctor/own-files.ts'
import { exitGroup } from '../kernel/process.ts'
import { ociRuntimes } from '../runtimes/known/index.ts'
import { launch, STOP_SECONDS } from '../runtimes/launch/launch.ts'
import { type Notes, NotesAtEnd, NotesAtOnce } from './notes.ts'
import { Refusals } from './refusals.ts'
import { RUN_HELP } from './run-help.ts'
import { collect, parseEnv, parseName, parseSeconds, parseSize, parseUser, parseWorkdir } from './run-options.ts'
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
  readonly init: boolean
  readonly stopTimeout?: number
  readonly explain?: boolean
  readonly quiet?: boolean
}

async function run(command: readonly string[], options: Options, notes: Notes): Promise<number> {
  const { config = [], bind: binds, device: asked = [], runtime: wanted, init, stopTimeout, ...others } = options
  const { explain = false, quiet = false, ...rest } = others
  mustBe(
    rest.rootfs === undefined || !rest.exposeHost,
    'Cannot use --expose-host with --rootfs: that is no part of the host; leave one of them out',
  )
  const wrong = openToOthers()
  if (wrong !== undefined) notes.say(wrong)
  const refusals = new Refusals(explain)
  const say = (text: string): void => notes.say(text)
  const { hints, ...intercepted } = interception(config, {
    say,
    record(call) {
      const line = refusals.add(call)
      if (line !== undefined) say(line)
    },
  })
  const devices = [...new Set([...(intercepted.devices ?? []), ...asked])]
  const runtime = ociRuntimes.find(({ name }) => name === wanted)
  const start = { runtime, binds, devices, command, bare: !init, stopSeconds: stopTimeout }
  const status = await launch({ ...rest, ...intercepted, ...start, say })
  const told = quiet ? [] : [...refusals.lines(), ...((status !== 0 && hints?.()) || [])]
  for (const line of told) say(line)
  return status
}

/** Runs the command and exits by exit_group: a thread that waits in the kernel would block any other exit. */
async function main(words: readonly string[], options: Options): Promise<never> {
  const notes = options.explain ? new NotesAtOnce() : new NotesAtEnd()
  let status: number
  try {
    status = await run(words, options, notes)
  } catch (error) {
    notes.say((error as Error).message)
    status = statusFor(error)
  }
  await notes.end()
  return exitGroup(status)
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
  .option(
    '--bind <path[:path][:ro][:idmap]>',
    'show a directory or file of the host; with idmap its owners have the same numbers in the container',
    collect,
  )
  .option('--device <path[:path]>', 'allow a device of the host', collect)
  .option('--memory <size>', 'the most memory that it may use, such as 512m', parseSize)
  .addOption(new Option('--net <mode>', 'its network').choices(['none', 'host']).default('none'))
  .addOption(new Option('--runtime <name>', `the OCI runtime (default: ${names.join(', else ')})`).choices(names))
  .option('--name <name>', 'its host name', parseName)
  .option('--env <key=value>', 'a variable of its environment; a KEY alone is passed on', parseEnv)
  .option('--workdir <dir>', 'where the command starts', parseWorkdir)
  .option('--user <uid[:gid]>', 'as whom the command starts', parseUser)
  .option('--no-init', 'make the command the first process, which gets no signal that it has no handler for')
  .option(
    '--stop-timeout <seconds>',
    `from SIGINT or SIGTERM until it is killed (default: ${STOP_SECONDS})`,
    parseSeconds,
  )
  .option('--explain', 'say at once, on standard error, why a call was refused')
  .option('--quiet', 'do not say at the end what was refused')
  .addHelpText('after', RUN_HELP)
  .action(main)
