/** Where the daemon of the host answers readers. */
export const FEED_SOCKET = '/run/intercede/feed.sock'
