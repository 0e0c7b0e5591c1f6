import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import koffi from 'koffi'
import { afterAll, expect, test } from 'vitest'
import { errnos } from '../../../src/abi/errno.ts'
import { AT_FDCWD, O_RDONLY } from '../../../src/abi/fcntl.ts'
import {
  encodeAddfd,
  NOTIF,
  SECCOMP_ADDFD_FLAG_SEND,
  SECCOMP_NOTIF_ADDFD_SIZE,
  SECCOMP_NOTIF_SIZE,
} from '../../../src/abi/seccomp.ts'
import { EPOLLIN } from '../../../src/abi/socket.ts'
import { Epoll, EpollEvent } from '../../../src/kernel/epoll.ts'
import { Fd } from '../../../src/kernel/fd.ts'
import { openat } from '../../../src/kernel/files.ts'
import { address, cstring, lastErrno, libc } from '../../../src/kernel/libc.ts'
import { parentNamespace } from '../../../src/kernel/pidfd.ts'
import { currentTid, setns } from '../../../src/kernel/process.ts'
import { copyFrom, RemoteMemory } from '../../../src/kernel/remote-memory.ts'
import { notifAddfd, notifIdValid, notifRecv, notifSizes } from '../../../src/kernel/seccomp.ts'
import { accept, listenUnix, peerCredentials, receive, send, socketpair } from '../../../src/kernel/socket.ts'
import { OciConnection } from '../../../src/runtimes/oci.ts'
import { fixture } from '../../support/fixtures.ts'
import { until } from '../../support/host.ts'

const directory = mkdtempSync(join(tmpdir(), 'intercede-wrappers-'))
afterAll(() => rmSync(directory, { recursive: true }))

test('the kernel knows the sizes that we know', () => {
  expect(notifSizes()).toEqual([80, 24, 64])
})

test('descriptors come over a socket, close-on-exec, with the bytes', () => {
  const [one, other] = socketpair()
  const file = openSync('/etc/passwd', 'r')
  send(one, Buffer.from('hello'), [new Fd(file)])
  const bytes = new Uint8Array(16)
  const message = receive(other, bytes)!
  expect(message).toMatchObject({ length: 5, truncated: false })
  expect(message.fds).toHaveLength(1)
  expect(readlinkSync(`/proc/self/fd/${message.fds[0]!.raw}`)).toBe('/etc/passwd')
  expect(receive(other, bytes)).toBeUndefined()
  expect(peerCredentials(one)).toMatchObject({ pid: process.pid, uid: 0 })
  for (const fd of [one, other, ...message.fds]) fd[Symbol.dispose]()
  closeSync(file)
})

test('a look whether anything is ready takes no turn of what is', () => {
  using epoll = new Epoll()
  const event = new EpollEvent()
  expect(epoll.isReady).toBe(false)
  const ends = [socketpair(), socketpair()].flat()
  for (const [index, end] of ends.entries()) {
    if (index % 2 === 0) send(end, Buffer.from('x'))
    else epoll.add(end, EPOLLIN, [index, 0])
  }
  const turns = Array.from({ length: 4 }, () => {
    expect(epoll.isReady).toBe(true)
    expect(event.wait(epoll.raw, 0)).toBe(true)
    return event.token
  })
  expect(turns.slice(0, 2).toSorted()).toEqual([1, 3])
  expect(turns.slice(2)).toEqual(turns.slice(0, 2))
  for (const end of ends) end[Symbol.dispose]()
})

test('the memory of another task is read over the bound of a page', () => {
  const memory = new RemoteMemory(4096, address)
  const there = Buffer.alloc(3 * 4096)
  const pages = (address(there) + 4095n) & ~4095n
  const at = pages + 4096n - 5n
  there.write('over a page', Number(at - address(there)))
  expect(memory.read(currentTid(), at, 11)).toBe(11)
  expect(Buffer.from(memory.bytes.subarray(0, 11)).toString()).toBe('over a page')
  expect(() => memory.read(currentTid(), 16n, 11)).toThrow('EFAULT')
})

test('our own user namespace has no parent that we may see, and joining our own mount namespace is allowed', () => {
  using userns = openat(AT_FDCWD, cstring('/proc/self/ns/user'), O_RDONLY)
  expect(parentNamespace(userns)).toBeUndefined()
  using ipc = openat(AT_FDCWD, cstring('/proc/self/ns/ipc'), O_RDONLY)
  expect(() => setns(ipc, 0)).not.toThrow()
  expect(() => setns(ipc, 0x20000)).toThrow('EINVAL')
})

test('a descriptor that answers a call arrives in the caller, and the call is over', async () => {
  const path = join(directory, 'agent.sock')
  using socket = listenUnix(path)
  const child = spawn(fixture('filtered'), [path, '--all-sysinfo', '--', fixture('caller'), 'getppid'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const said = new Promise<string>((resolve) => child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString())))
  let connection: OciConnection | undefined
  await until('the fixture connects', () => {
    const fd = accept(socket)
    if (fd) connection = new OciConnection(fd)
    return fd !== undefined
  })
  using peer = connection!
  let progress = peer.read()
  await until('the listener comes', () => {
    progress ??= peer.read()
    return progress !== undefined
  })
  using listener = progress!.listener
  const slot = new Uint8Array(SECCOMP_NOTIF_SIZE)
  expect(notifRecv(listener.raw, slot)).toBe(true)
  const id = new DataView(slot.buffer).getBigUint64(NOTIF.id, true)
  const valid = (): boolean => notifIdValid(listener.raw, slot.subarray(0, 8))
  expect(valid()).toBe(true)
  const addfd = new Uint8Array(SECCOMP_NOTIF_ADDFD_SIZE)
  encodeAddfd(new DataView(addfd.buffer), {
    id,
    flags: SECCOMP_ADDFD_FLAG_SEND,
    srcfd: listener.raw,
    newfd: 0,
    newfdFlags: 0,
  })
  expect(notifAddfd(listener.raw, addfd)).toBeGreaterThan(2)
  expect(JSON.parse(await said)).toEqual({ ok: true })
  expect(valid()).toBe(false)
})

test('more than a page of another task is copied in pieces, or not at all', () => {
  const memory = new RemoteMemory(4096, address)
  const text = Buffer.alloc(3 * 4096 + 7, 'pages and a few bytes ')
  expect(Buffer.from(copyFrom(memory, currentTid(), address(text), text.length)).equals(text)).toBe(true)
  expect(() => copyFrom(memory, currentTid(), 16n, 3)).toThrow('EFAULT')
})

test('a string is copied whole wherever the end of its page lies, and as far as it can be read', () => {
  const memory = new RemoteMemory(4096, address)
  const there = Buffer.alloc(4 * 4096)
  const page = (address(there) + 4095n) & ~4095n
  const text = `a name\0${'x'.repeat(20)}`
  for (let before = 0; before <= text.length; before++) {
    there.fill(0xff)
    const at = page + 4096n - BigInt(before)
    there.write(text, Number(at - address(there)), 'latin1')
    memory.bytes.fill(0)
    const length = memory.readString(currentTid(), at, 4096)
    expect(length).toBeGreaterThanOrEqual('a name\0'.length)
    expect(Buffer.from(memory.bytes.subarray(0, 7)).toString('latin1')).toBe('a name\0')
  }
  // No end at all: as much as was asked for.
  there.fill(0xff)
  expect(memory.readString(currentTid(), page + 4000n, 4096)).toBe(4096)
  expect(memory.readString(currentTid(), page, 4096)).toBe(4096)
  expect(memory.readString(currentTid(), page + 4000n, 10)).toBe(10)
  expect(() => memory.readString(currentTid(), 16n, 11)).toThrow('EFAULT')
})

test('errno is that of our last call, whatever the runtime has changed since', async () => {
  const open = libc.func('int open(const char *path, int flags)')
  const somebodyElses = koffi.load(null).func('int close(int fd)')
  expect(open('/nowhere', O_RDONLY)).toBe(-1)
  expect(somebodyElses(-1)).toBe(-1)
  expect(koffi.errno()).toBe(errnos.EBADF)
  expect(lastErrno()).toBe(errnos.ENOENT)
  const seen = new Promise((resolve) => {
    open.async('/dev/null/nowhere', O_RDONLY, () => {
      somebodyElses(-1)
      resolve(lastErrno())
    })
  })
  expect(await seen).toBe(errnos.ENOTDIR)
})
