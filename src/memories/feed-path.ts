/** The socket on which the host's daemon answers readers. */
export const FEED_SOCKET = '/run/intercede/feed.sock'
