/** linux/socket.h, asm-generic/socket.h and linux/net.h. */
export const AF_UNIX = 1
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_SEQPACKET = 5
export const SOCK_CLOEXEC = 0o2000000
export const SOCK_NONBLOCK = 0o4000

export const SOL_SOCKET = 1
export const SO_PEERCRED = 17
export const SO_TIMESTAMPNS = 35
/** Since 6.5. */
export const SO_PEERPIDFD = 77

/** Request of ioctl(2), linux/sockios.h: how much of what was sent the peer has not read. */
export const SIOCOUTQ = 0x5411

export const SCM_RIGHTS = 1
/** No message carries more descriptors, net/scm.h. */
export const SCM_MAX_FD = 253
export const SHUT_RDWR = 2

export const MSG_PEEK = 2
export const MSG_CTRUNC = 8
export const MSG_DONTWAIT = 0x40
export const MSG_NOSIGNAL = 0x4000
export const MSG_CMSG_CLOEXEC = 0x40000000

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
