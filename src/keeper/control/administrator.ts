import { readFileSync, readlinkSync } from 'node:fs'
import { capMask } from '../../abi/capability.ts'
import type { Handle } from '../../kernel/handle.ts'
import { peerProcess } from '../../kernel/peer.ts'
import { pidfdIsAlive } from '../../kernel/pidfd.ts'
import { peerCredentials, socketpair } from '../../kernel/socket.ts'

/** The sender of an order, in words. */
export interface Administrator {
  readonly by: string
}

const usernsOf = (pid: number | 'self'): string => readlinkSync(`/proc/${pid}/ns/user`)
const effectiveOf = (pid: number): bigint =>
  BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0'}`)

/** The login user, which the kernel keeps across su(1) and sudo(8) if it has auditing. */
const UNSET = '4294967295'
function loginOf(pid: number): string {
  try {
    const login = readFileSync(`/proc/${pid}/loginuid`, 'latin1')
    return /^\d+$/.test(login) && login !== UNSET && login !== '0' ? ` (who logged in as user ${login})` : ''
  } catch {
    return ''
  }
}

/**
 * A container's root may have our socket, and even the host's uid 0, through a mount and a user namespace that its
 * administrator has chosen. But it is in another user namespace, or lacks the capability of an administrator.
 */
function lookAt(pid: number): Administrator | string {
  if (usernsOf(pid) !== usernsOf('self')) return 'it is in another user namespace than the daemon, as a container is'
  if ((effectiveOf(pid) & capMask('SYS_ADMIN')) === 0n) return 'it lacks CAP_SYS_ADMIN, as a container does'
  return { by: `root${loginOf(pid)}` }
}

/** Whether the kernel can tell a process from a later one with the same pid: since Linux 6.5. */
function tellsProcesses(): boolean {
  const [ours, theirs] = socketpair()
  using _one = ours
  using _other = theirs
  using peer = peerProcess(ours)
  return peer !== undefined
}

/** Identifies the other end of a connection. @returns why it may not give orders, if so */
export function administratorAt(connection: Handle): Administrator | string {
  const { uid, pid } = peerCredentials(connection)
  if (uid !== 0) return `only root may, not user ${uid}`
  if (pid === 0) return 'it is not visible in the pid namespace of the daemon'
  using peer = peerProcess(connection)
  const gone = 'it has ended before it could be looked at'
  if (!peer && tellsProcesses()) return gone
  try {
    const found = lookAt(pid)
    return peer && !pidfdIsAlive(peer.pidfd) ? gone : found
  } catch {
    return gone
  }
}
