import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { crun } from '../../../src/runtimes/known/crun.ts'
import { runc } from '../../../src/runtimes/known/runc.ts'
import { type Done, execute } from '../../support/host.ts'
import { BASE, Machine } from '../../support/machine.ts'

/** What crun and runc call between the filter and the hand-over, seen under strace, and what else an agent might trap. */
const AROUND_THE_HAND_OVER = [
  ...['sendmsg', 'sendto', 'recvmsg', 'read', 'close', 'fcntl', 'dup', 'dup3', 'kill', 'wait4', 'waitid', 'exit_group'],
  ...[
    'futex',
    'nanosleep',
    'clock_nanosleep',
    'sched_yield',
    'epoll_ctl',
    'epoll_pwait',
    'epoll_wait',
    'ppoll',
    'poll',
  ],
  ...['mmap', 'munmap', 'madvise', 'mprotect', 'brk', 'clone', 'clone3', 'getpid', 'gettid', 'tgkill', 'execve'],
  ...['rt_sigaction', 'rt_sigprocmask', 'rt_sigreturn', 'sigaltstack', 'restart_syscall', 'prctl', 'seccomp', 'openat'],
]
const TIMEOUT_S = 5

const targets = { crun: crun.target, runc: runc.target }
type Name = keyof typeof targets

let machine: Machine
beforeAll(async () => {
  machine = new Machine()
  await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await machine.serve()
})
afterAll(async () => machine.close())
let serial = 0

/** Runs `echo hello` in a container that has these calls trapped, for at most `TIMEOUT_S`. */
async function run(runtime: Name, names: readonly string[], noNewPrivileges: boolean): Promise<Done> {
  const id = `lint-${process.pid}-${serial++}`
  const bundle = join(machine.directory, id)
  mkdirSync(bundle)
  const ids = [{ containerID: 0, hostID: BASE, size: 65536 }]
  const spec = {
    ociVersion: '1.0.2',
    process: { user: { uid: 0, gid: 0 }, args: ['echo', 'hello'], env: ['PATH=/bin'], cwd: '/', noNewPrivileges },
    root: { path: machine.rootfs },
    mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
    linux: {
      ...{ uidMappings: ids, gidMappings: ids },
      namespaces: ['pid', 'mount', 'ipc', 'uts', 'user'].map((type) => ({ type })),
      seccomp: {
        ...{ defaultAction: 'SCMP_ACT_ALLOW', listenerPath: machine.socket, flags: targets[runtime].flags },
        syscalls: [{ names, action: 'SCMP_ACT_NOTIFY' }],
      },
    },
  }
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec))
  const global: string[] = [runtime, '--root', join(machine.directory, 'state')]
  if (runtime === 'crun') global.push('--cgroup-manager', 'cgroupfs')
  const limit = ['--kill-after=1', String(TIMEOUT_S)]
  const done = await machine.run('timeout', ...limit, ...global, 'run', '--bundle', bundle, id)
  if (done.status !== 0) await machine.run(global[0]!, ...global.slice(1), 'delete', '--force', id)
  return done
}

/** That many times, since where a Go program waits is a matter of chance. */
const TIMES = 5
const together = (runtime: Name, names: readonly string[], flag: boolean): Promise<readonly Done[]> =>
  Promise.all(Array.from({ length: TIMES }, () => run(runtime, names, flag)))

describe.each([{ noNewPrivileges: false }, { noNewPrivileges: true }])(
  'noNewPrivileges $noNewPrivileges:',
  ({ noNewPrivileges }) => {
    test(`crun starts with ${AROUND_THE_HAND_OVER.length} calls around the hand-over trapped, and write too`, async () => {
      for (const done of await together('crun', [...AROUND_THE_HAND_OVER, 'write'], noNewPrivileges)) {
        expect(done).toMatchObject({ status: 0, stdout: 'hello\n' })
      }
    })

    test(`runc starts with ${AROUND_THE_HAND_OVER.length} calls around the hand-over trapped`, async () => {
      for (const done of await together('runc', AROUND_THE_HAND_OVER, noNewPrivileges)) {
        expect(done).toMatchObject({ status: 0, stdout: 'hello\n' })
      }
    })

    test('runc refuses write by itself, which would hang it', async () => {
      const done = await run('runc', ['write'], noNewPrivileges)
      expect(done.status).toBe(1)
      expect(done.stderr).toContain('SCMP_ACT_NOTIFY cannot be used for the write syscall')
    })
  },
)
