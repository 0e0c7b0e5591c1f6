import type { Command } from 'commander'
import { command as api } from './api.ts'
import { command as completion } from './completion.ts'
import { command as doctor } from './doctor.ts'
import { command as events } from './events.ts'
import { command as explain } from './explain.ts'
import { command as flags } from './flags.ts'
import { command as inspect } from './inspect.ts'
import { command as metrics } from './metrics.ts'
import { command as profile } from './profile.ts'
import { command as ps } from './ps.ts'
import { command as reload } from './reload.ts'
import { command as run } from './run.ts'
import { command as serve } from './serve.ts'
import { command as set } from './set.ts'
import { command as status } from './status.ts'
import { command as stop } from './stop.ts'
import { command as top } from './top.ts'

/** The subcommands. Each loads what does its work only when it is to be done: most of the start-up time is loading. */
export const commands: readonly Command[] = [
  run,
  serve,
  profile,
  flags,
  doctor,
  ps,
  inspect,
  events,
  top,
  explain,
  metrics,
  api,
  ...[set, reload, status, stop],
  completion,
]

/** What the exit status of any of them means, for the help and the manual. */
export const EXIT_STATUS = `  0    it is done
  1    the answer is no: of doctor, of profile --check and of serve --check-config; there is no such container, or no engine
  2    the command line means nothing
  125  the command line was understood, and what it asks for failed
       run ends with 126 and 127 as podman does, and else with the status of its command`
