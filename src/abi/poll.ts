/** What a descriptor is ready for, asm-generic/poll.h. */
export const POLLIN = 0x001
export const POLLOUT = 0x004
export const POLLERR = 0x008
export const POLLHUP = 0x010

/** The same for epoll(7), linux/eventpoll.h. */
export const EPOLLIN = 0x001
export const EPOLLERR = 0x008
export const EPOLLHUP = 0x010

export const EPOLL_CLOEXEC = 0o2000000
export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2
export const EPOLL_CTL_MOD = 3
