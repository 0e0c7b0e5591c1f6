/** asm-generic/signal.h and linux/wait.h: the same on x86 and ARM. */
export const SIGHUP = 1
export const SIGKILL = 9
export const SIGTERM = 15
export const SIGCONT = 18
export const SIGURG = 23

/** A handler of a signal, as an address. */
export const SIG_IGN = 1

/** How pthread_sigmask(3) changes the mask. */
export const SIG_BLOCK = 0
export const SIG_UNBLOCK = 1

/** `struct sigaction` of the C library: handler, mask (`sigset_t`), flags, restorer. */
export const SIGACTION_SIZE = 152
export const SIGSET_SIZE = 128

/** waitpid(2) returns at once. */
export const WNOHANG = 1
