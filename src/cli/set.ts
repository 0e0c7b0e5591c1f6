import { shownJson } from '../calls/escape.ts'
import type { ReloadAnswer, SetAnswer } from '../keeper/control/protocol.ts'
import { formatChange } from '../keeper/log/effective-keys.ts'
import type { ChangedKeys } from '../keeper/process/events.ts'
import { orElse } from '../kernel/error.ts'
import { fullName } from '../policy/key.ts'
import { type KeyValueLine, PROFILE, parseAssignment } from '../policy/key-value-lines.ts'
import { toKeyName } from '../policy/keys.ts'
import { settle } from '../policy/settings.ts'
import { LXC, RUN } from '../reader/container-fields.ts'
import { containersOf } from '../reader/container-view.ts'
import { connect } from '../reader/feed.ts'
import { briefly, counted } from '../shared/texts.ts'
import { askDaemon, controlSocket, feedBeside, requireOrders } from './ask-daemon.ts'
import { formatContainer, openFeeds, requireContainer } from './open-feed.ts'
import { formatValue } from './output-format.ts'
import { print, say } from './print.ts'
import { asUsage, checkUsage, NegativeAnswer, STATUS } from './usage.ts'

interface SetOptions {
  readonly unset?: readonly string[]
  readonly format: 'table' | 'json'
  readonly control?: string
  readonly feed?: string
}

/** @throws {UsageError} for what is no key, or no value of it */
function readKeys(words: readonly string[]): Readonly<Record<string, string>> {
  const lines = words.map((word): KeyValueLine => {
    const [key, value] = asUsage(() => parseAssignment(word))
    checkUsage(
      key !== PROFILE,
      `Cannot set ${briefly(word)}: a profile is no key; set the keys that it has, or edit it and reload`,
    )
    return [key, value]
  })
  const settings = asUsage(() => settle(lines, new Map()))
  return Object.fromEntries([...settings].map(([name, { text }]) => [name, text]))
}

const changeLines = (changes: ChangedKeys): readonly string[] =>
  Object.entries(changes).map(([key, change]) => formatValue(formatChange(key, change)))

export function setCommand(word: string, words: readonly string[], options: SetOptions): void {
  const { unset: given = [], format, control } = options
  const path = options.feed ?? (control === undefined ? undefined : feedBeside(control))
  const set = readKeys(words)
  const unset = given.map((key) => asUsage(() => toKeyName(key)))
  checkUsage(words.length > 0 || unset.length > 0, 'Cannot set keys: none is named; give KEY=VALUE, or --unset KEY')
  const both = unset.find((name) => set[name] !== undefined)
  checkUsage(
    both === undefined,
    `Cannot set and unset ${both === undefined ? '' : fullName(both)} at once; leave one out`,
  )
  const socket = controlSocket(control, path)
  requireOrders(socket)
  using feeds = openFeeds(path, { isUsual: true })
  const view = requireContainer(feeds, word)
  const { id, name, serial, state, runtime } = view
  if (runtime === RUN)
    throw new NegativeAnswer(
      `Cannot set keys of ${id}: a container of "intercede run" keeps the keys of its command line; start it again with others`,
    )
  if (feeds.missing && state !== 'ended') throw feeds.missing
  if (state === 'unserved')
    throw new NegativeAnswer(`Cannot set keys of container ${briefly(word)}: no daemon serves it any more; restart it`)
  if (state === 'unknown')
    throw new NegativeAnswer(
      `Cannot set keys of container ${briefly(word)}: the daemon has not seen it since it was restarted; it serves the container once LXC asks it, and takes orders then; if its calls fail with ENOSYS, stop and start it`,
    )
  if (state === 'ended') {
    // LXC hands a container over with its first call.
    const why =
      runtime === LXC
        ? 'it has ended, or was started again and has made no trapped call since; make one, such as "mknod x c 1 3"'
        : 'it has ended; start it again'
    throw new NegativeAnswer(`Cannot set keys of container ${briefly(word)}: ${why}`)
  }
  const request = { type: 'set', container: id, serial, set, unset } as const
  const { changed, warnings, isPending } = askDaemon<SetAnswer>(socket, request)
  if (isPending) {
    say(
      `The daemon has taken the order, but its engine does not answer: the keys hold once it continues, or another one serves, which takes ten seconds if it hangs`,
    )
    process.exitCode = STATUS.failure
  }
  if (format === 'json') {
    print(`${shownJson({ container: id, name, changed, warnings })}\n`)
    return
  }
  const lines = changeLines(changed).map((line) => `  ${line}\n`)
  print(`${formatContainer(view)}\n${lines.join('') || '  That was so already.\n'}`)
  for (const warning of warnings) say(`Cannot work: ${formatValue(warning)}`)
}

interface ReloadOptions {
  readonly dryRun?: true
  readonly force?: boolean
  readonly format: 'table' | 'json'
  readonly control?: string
  readonly feed?: string
}

/** Returns how to show each container of the daemon that takes orders at this socket, by their ids. */
const shownBeside = (socket: string): ReadonlyMap<string, string> =>
  orElse(new Map(), () => {
    using feed = connect(feedBeside(socket))
    return new Map(containersOf(feed, false, 'last').map((view) => [view.id, formatContainer(view)]))
  })

export function reloadCommand({ dryRun, force = false, format, control, feed }: ReloadOptions): void {
  const dry = dryRun === true
  const socket = controlSocket(control, feed)
  requireOrders(socket)
  const said = askDaemon<ReloadAnswer>(socket, { type: 'reload', dry, force })
  if (format === 'json') {
    print(`${shownJson(said)}\n`)
    return
  }
  const names = said.changed.length === 0 ? new Map<string, string>() : shownBeside(socket)
  const lines = said.changed.flatMap(({ container, keys }) => [
    names.get(container) ?? formatContainer({ id: container }),
    ...changeLines(keys).map((line) => `  ${line}`),
  ])
  const would = dry ? 'would change' : 'changed'
  const { daemon = [], anotherEngine = false } = said
  if (daemon.length > 0)
    lines.push(
      `of the daemon itself, ${daemon.join(', ')} ${would}${anotherEngine ? '; calls wait while another engine starts' : ''}`,
    )
  lines.push(`${said.changed.length} of ${counted(said.containers, 'container')} ${would}`)
  print(`${lines.join('\n')}\n`)
  for (const warning of said.warnings) say(formatValue(warning))
}
