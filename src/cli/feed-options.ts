import { FEED_SOCKET } from '../memories/feed-path.ts'

/** The option of all commands that read what a daemon shows. */
export const FEED_OPTION = [
  '--feed <path>',
  `the socket of the daemon (default: ${FEED_SOCKET}; of a user's daemon, intercede/feed.sock in XDG_RUNTIME_DIR)`,
] as const

/** Lists the fields of a template, for the help. */
export const fieldList = (fields: readonly string[]): string => fields.map((name) => `{${name}}`).join(' ')
