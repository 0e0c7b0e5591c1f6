import { Option } from 'commander'
import { CONTROL_SOCKET } from '../keeper/control/protocol.ts'
import { FEED_SOCKET } from '../memories/feed-path.ts'

const WHERE = `(default: ${FEED_SOCKET}; of a user's daemon, intercede/feed.sock in XDG_RUNTIME_DIR)`

/** The option of all commands that read what a daemon shows. */
export const FEED_OPTION = ['--feed <path>', `the socket of the daemon ${WHERE}`] as const

/** The same of lists, in which the runs of the machine are too. */
export const ONLY_FEED_OPTION = [FEED_OPTION[0], `the socket of the daemon, and no "run" beside it ${WHERE}`] as const

/** The option of all commands that give the daemon orders. */
export const CONTROL_OPTION = [
  '--control <path>',
  `the socket on which the daemon takes orders (default: ${CONTROL_SOCKET}, or control.sock beside --feed)`,
] as const

/** The format of what has no rows. */
export const formatOption = (): Option =>
  new Option('--format <format>', 'how the answer is printed').choices(['table', 'json']).default('table')

/** Lists the fields of a template, for the help. */
export const fieldList = (fields: readonly string[]): string => fields.map((name) => `{${name}}`).join(' ')
