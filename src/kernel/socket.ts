import { errnos } from '../abi/errno.ts'
import {
  AF_UNIX,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLIN,
  POLLOUT,
  SCM_MAX_FD,
  SCM_RIGHTS,
  SHUT_RDWR,
  SIOCOUTQ,
  SO_PEERCRED,
  SO_PEERPIDFD,
  SO_TIMESTAMPNS,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from '../abi/socket.ts'
import { SyscallError } from './error.ts'
import { Fd, guarded, type Handle, poll } from './fd.ts'
import { address, check, lastErrno, libc } from './libc.ts'

/** `sun_path` holds 108 bytes with its NUL. */
const PATH_LIMIT = 107

const libcSocket = libc.func('int socket(int domain, int type, int protocol)')
const libcSocketpair = libc.func('int socketpair(int domain, int type, int protocol, int32_t *fds)')
const libcBind = libc.func('int bind(int fd, uint8_t *address, uint32_t length)')
const libcConnect = libc.func('int connect(int fd, uint8_t *address, uint32_t length)')
const libcListen = libc.func('int listen(int fd, int backlog)')
const libcAccept4 = libc.func('int accept4(int fd, void *address, void *length, int flags)')
const libcShutdown = libc.func('int shutdown(int fd, int how)')
const libcSetsockopt = libc.func('int setsockopt(int fd, int level, int name, uint8_t *value, uint32_t length)')
const libcGetsockopt = libc.func('int getsockopt(int fd, int level, int name, uint8_t *value, uint32_t *length)')
const libcIoctl = libc.func('ioctl', 'int', ['int', 'ulong', 'uint8_t *'])
const libcRecvmsg = libc.func('int recvmsg(int fd, uint8_t *message, int flags)')
const libcSendmsg = libc.func('int sendmsg(int fd, uint8_t *message, int flags)')

/** `struct sockaddr_un`: u16 family, then the path with its NUL. */
function addressOf(path: string): Uint8Array {
  const bytes = Buffer.from(`\0\0${path}\0`)
  if (bytes.length - 3 > PATH_LIMIT) {
    throw new RangeError(`Cannot use socket path "${path}": longer than ${PATH_LIMIT} bytes`)
  }
  bytes.writeUInt16LE(AF_UNIX, 0)
  return bytes
}

/** packet: SOCK_SEQPACKET, which keeps the boundaries of messages. */
export type SocketType = 'stream' | 'packet'
const types: Readonly<Record<SocketType, number>> = { stream: SOCK_STREAM, packet: SOCK_SEQPACKET }

/**
 * Opens a listening, non-blocking socket at `path`; the calling function sets the file's mode and removes it.
 *
 * @param backlog large, since Go, and so runc, connects without blocking, and gets EAGAIN if the backlog is full
 * @throws {SyscallError} EADDRINUSE if `path` exists; ENOENT; EACCES
 * @see unix(7)
 */
export function listenUnix(path: string, type: SocketType = 'stream', backlog = 4096): Fd {
  const fd = new Fd(check('socket', libcSocket(AF_UNIX, types[type] | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)))
  return guarded(fd, () => {
    const name = addressOf(path)
    check('bind', libcBind(fd.raw, name, name.length))
    check('listen', libcListen(fd.raw, backlog))
    return fd
  })
}

/**
 * Connects a datagram socket to the socket at `path`; a leading `@` stands for the NUL of the abstract namespace.
 *
 * @throws {SyscallError} ECONNREFUSED if no process reads there; ENOENT; EPROTOTYPE if that socket has another type
 */
export const connectDatagram = (path: string): Fd => connect(path.replace(/^@/, '\0'), SOCK_DGRAM)

/**
 * Connects to the socket at `path`.
 *
 * @throws {SyscallError} ECONNREFUSED if no process listens there; ENOENT; EPROTOTYPE if that socket has another type
 */
export const connectUnix = (path: string, type: SocketType = 'stream'): Fd => connect(path, types[type])

function connect(path: string, type: number): Fd {
  const fd = new Fd(check('socket', libcSocket(AF_UNIX, type | SOCK_CLOEXEC, 0)))
  return guarded(fd, () => {
    // An abstract name has no NUL at its end: a NUL there would be a part of the name.
    const name = path.startsWith('\0') ? addressOf(path).subarray(0, -1) : addressOf(path)
    check('connect', libcConnect(fd.raw, name, name.length))
    return fd
  })
}

/** Accepts a connection, non-blocking; undefined if none is waiting. */
export function accept(listening: Handle): Fd | undefined {
  const raw = libcAccept4(listening.raw, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK)
  if (raw >= 0) return new Fd(raw)
  const errno = lastErrno()
  if (errno === errnos.EAGAIN || errno === errnos.EINTR || errno === errnos.ECONNRESET) return undefined
  throw new SyscallError('accept4', errno)
}

/** Makes two connected sockets that keep the boundaries of messages (SOCK_SEQPACKET). */
export function socketpair(): [Fd, Fd] {
  const fds = new Int32Array(2)
  check('socketpair', libcSocketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
  return [new Fd(fds[0]!), new Fd(fds[1]!)]
}

/** Returns `struct ucred` of the peer: of the process that called connect(2). */
export function peerCredentials(fd: Handle): { readonly pid: number; readonly uid: number; readonly gid: number } {
  const ucred = new Int32Array(3)
  const length = new Uint32Array([12])
  check('getsockopt', libcGetsockopt(fd.raw, SOL_SOCKET, SO_PEERCRED, new Uint8Array(ucred.buffer), length))
  return { pid: ucred[0]!, uid: ucred[1]! >>> 0, gid: ucred[2]! >>> 0 }
}

const outQueue = new Int32Array(1)
const outQueueBytes = new Uint8Array(outQueue.buffer)

/** Returns whether the peer has not read all that was sent; false if it has closed its end. @see unix(7) SIOCOUTQ */
export function isUnread(socket: Handle): boolean {
  check('ioctl', libcIoctl(socket.raw, SIOCOUTQ, outQueueBytes))
  return outQueue[0] !== 0
}

/** Ends a connection without closing the descriptor: both ends read end of file, and nothing more can be sent. */
export function shutdown(socket: Handle): void {
  // The result is ignored, since the peer may have gone already (ENOTCONN).
  libcShutdown(socket.raw, SHUT_RDWR)
}

/** Makes `receive` return the time of sending for messages that are sent from now on. */
export function stampMessages(socket: Handle): void {
  const on = new Uint8Array(new Int32Array([1]).buffer)
  check('setsockopt', libcSetsockopt(socket.raw, SOL_SOCKET, SO_TIMESTAMPNS, on, on.length))
}

const align8 = (length: number): number => (length + 7) & ~7
const CMSG_HEADER = 16
const TIMESPEC = 16

/**
 * `struct msghdr` of 64-bit machines with one iovec: 0 name, 8 namelen, 16 iov, 24 iovlen, 32 control, 40 controllen,
 * 48 flags. The iovec is in the same buffer, at 56, so that both live equally long.
 */
function msghdr(data: Uint8Array, control: Uint8Array): Buffer {
  const header = Buffer.alloc(72)
  header.writeBigUInt64LE(data.length ? address(data) : 0n, 56)
  header.writeBigUInt64LE(BigInt(data.length), 64)
  header.writeBigUInt64LE(address(header) + 56n, 16)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(control.length ? address(control) : 0n, 32)
  header.writeBigUInt64LE(BigInt(control.length), 40)
  return header
}

export interface Message {
  /** 0: the peer closed its end (or, on SOCK_SEQPACKET, sent nothing). */
  readonly length: number
  readonly fds: readonly Fd[]
  /** Whether descriptors were lost, because the buffer was too small or our table of descriptors full. */
  readonly truncated: boolean
  /** The time of sending in milliseconds since 1970; undefined before `stampMessages`. */
  readonly sent: number | undefined
}

/**
 * Receives bytes into `data`, and descriptors, which are close-on-exec. Never blocks.
 *
 * @param flags MSG_PEEK leaves the message in the queue; each such call returns new descriptors
 * @returns undefined if there is no message now
 * @throws {SyscallError} ECONNRESET
 * @see recvmsg(2), cmsg(3), unix(7) "SCM_RIGHTS"
 */
export function receive(socket: Handle, data: Uint8Array, flags = 0): Message | undefined {
  const control = Buffer.alloc(2 * CMSG_HEADER + align8(4 * SCM_MAX_FD) + TIMESPEC)
  const header = msghdr(data, control)
  const length = libcRecvmsg(socket.raw, header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | flags)
  if (length < 0) {
    const errno = lastErrno()
    if (errno === errnos.EAGAIN || errno === errnos.EINTR) return undefined
    throw new SyscallError('recvmsg', errno)
  }
  const used = Number(header.readBigUInt64LE(40))
  return {
    length,
    ...ancillary(control.subarray(0, used)),
    truncated: (header.readUInt32LE(48) & MSG_CTRUNC) !== 0,
  }
}

/** Decodes `struct cmsghdr`: u64 length with the header, s32 level, s32 type; then s32 descriptors or a timespec. */
function ancillary(control: Buffer): { readonly fds: readonly Fd[]; readonly sent: number | undefined } {
  const fds: Fd[] = []
  let sent: number | undefined
  for (let at = 0; at + CMSG_HEADER <= control.length; ) {
    const length = Number(control.readBigUInt64LE(at))
    if (length < CMSG_HEADER) break
    const type = control.readInt32LE(at + 8) === SOL_SOCKET ? control.readInt32LE(at + 12) : 0
    const body = control.subarray(at + CMSG_HEADER, at + length)
    if (type === SCM_RIGHTS) for (let fd = 0; fd + 4 <= body.length; fd += 4) fds.push(new Fd(body.readInt32LE(fd)))
    if (type === SO_TIMESTAMPNS) sent = Number(body.readBigInt64LE(0)) * 1000 + Number(body.readBigInt64LE(8)) / 1e6
    at += align8(length)
  }
  return { fds, sent }
}

/** Blocks until a descriptor is readable. @param timeout milliseconds; -1 for none @returns false after the time-out */
export const waitReadable = (fd: Handle, timeout: number): boolean => poll(fd.raw, POLLIN, timeout) !== 0
/** Blocks until a descriptor is writable. @param timeout milliseconds; -1 for none @returns false after the time-out */
export const waitWritable = (fd: Handle, timeout: number): boolean => poll(fd.raw, POLLOUT, timeout) !== 0

/**
 * Sends bytes and copies of descriptors in one message; blocks while the peer's queue is full.
 *
 * @throws {SyscallError} EPIPE; ECONNRESET; EMSGSIZE; EAGAIN with MSG_DONTWAIT while the queue is full
 */
export function send(socket: Handle, data: Uint8Array, fds: readonly Handle[] = [], flags = 0): void {
  const control = Buffer.alloc(fds.length ? CMSG_HEADER + align8(4 * fds.length) : 0)
  if (fds.length) {
    control.writeBigUInt64LE(BigInt(CMSG_HEADER + 4 * fds.length), 0)
    control.writeInt32LE(SOL_SOCKET, 8)
    control.writeInt32LE(SCM_RIGHTS, 12)
    for (const [index, fd] of fds.entries()) control.writeInt32LE(fd.raw, CMSG_HEADER + 4 * index)
  }
  const header = msghdr(data, control)
  for (;;) {
    if (libcSendmsg(socket.raw, header, MSG_NOSIGNAL | flags) >= 0) return
    const errno = lastErrno()
    if (errno !== errnos.EINTR) throw new SyscallError('sendmsg', errno)
  }
}

interface Peer extends Disposable {
  readonly pid: number
  readonly pidfd: Handle
}

/**
 * Returns the process that connected, with a pidfd, which cannot refer to a later process of the same number.
 *
 * @returns undefined if the process is gone, or before Linux 6.5
 * @see unix(7) SO_PEERPIDFD
 */
export function peerProcess(connection: Handle): Peer | undefined {
  const value = new Int32Array(1)
  const length = new Uint32Array([4])
  if (libcGetsockopt(connection.raw, SOL_SOCKET, SO_PEERPIDFD, new Uint8Array(value.buffer), length) !== 0)
    return undefined
  const pidfd = new Fd(value[0]!)
  return { pid: peerCredentials(connection).pid, pidfd, [Symbol.dispose]: () => pidfd[Symbol.dispose]() }
}
