/**
 * To be imported first by every program of ours. SIGUSR1 makes Node open its inspector on a port of this host, on which
 * every local user could run code in the process. A listener takes that meaning from the signal. The walker, which
 * stands in the user namespace of its container, can be sent signals by tasks of that container.
 */
process.on('SIGUSR1', () => {})

/**
 * The option of Node for the moment before the listener: no socket can listen on a multicast address, bind(2) fails
 * with EINVAL.
 */
export const NO_INSPECTOR = '--inspect-port=[ff02::1]:65535'
