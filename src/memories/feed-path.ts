/** The socket on which the host's daemon answers readers. */
export const FEED_SOCKET = '/run/intercede/feed.sock'
/** Where that daemon keeps history: in the file that is written now, and the one before it. */
export const HISTORY = '/var/lib/intercede'
export const HISTORY_FILES = { now: 'history.jsonl', before: 'history.1.jsonl' } as const
