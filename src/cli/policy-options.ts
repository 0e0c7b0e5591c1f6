import { Option } from 'commander'
import { configFile } from './config-file.ts'
import { collect } from './run-options.ts'

/** The options of `profile` and `flags` that say what a container may have. */
export interface PolicyOptions {
  /** The keys of the policy, as on a command line. */
  readonly config?: readonly string[] | undefined
  /** The name of a profile of the daemon's configuration. */
  readonly profile?: string | undefined
  /** The reach: keys that the daemon's configuration may turn on later, while containers run. */
  readonly trap?: readonly string[] | undefined
  /** The file of the daemon's configuration. */
  readonly daemonConfig?: string | undefined
  readonly user?: boolean | undefined
  /** Of `flags` alone: some of them may hold by the daemon's configuration. */
  readonly annotation?: readonly string[] | undefined
}

/** Makes the options of `profile` and `flags` that say what a container may have. */
export const policyOptions = (): readonly Option[] => [
  new Option('-c, --config <KEY[=VALUE]>', 'set a policy key, may be repeated').argParser(collect),
  new Option('--profile <name>', "take this profile of the daemon's configuration, also as it will be edited later"),
  new Option(
    '--trap <KEY[=VALUE]>',
    "trap the calls of this key too, so that the daemon's configuration may turn it on later; may be repeated",
  ).argParser(collect),
  new Option('--daemon-config <file>', `where that profile is (default: ${configFile(false)})`),
]
