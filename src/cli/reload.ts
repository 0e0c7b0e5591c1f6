import type { ReloadAnswer } from '../keeper/control/protocol.ts'
import { counted } from '../policy/counted.ts'
import { askDaemon, controlSocket } from './ask-daemon.ts'
import { shortId } from './open-feed.ts'
import { asJson } from './output-format.ts'
import { print } from './print.ts'
import { changeLines } from './set.ts'

interface ReloadOptions {
  readonly dryRun?: true
  readonly format: 'table' | 'json'
  readonly control?: string
}

export function reloadCommand({ dryRun, format, control }: ReloadOptions): void {
  const dry = dryRun === true
  const said = askDaemon<ReloadAnswer>(controlSocket(control), { type: 'reload', dry })
  if (format === 'json') {
    print(`${asJson(said)}\n`)
    return
  }
  const lines = said.changed.flatMap(({ container, keys }) => [
    shortId(container),
    ...changeLines(keys).map((line) => `  ${line}`),
  ])
  const would = dry ? 'would change' : 'changed'
  lines.push(`${said.changed.length} of ${counted(said.containers, 'container')} ${would}`)
  print(`${lines.join('\n')}\n`)
}
