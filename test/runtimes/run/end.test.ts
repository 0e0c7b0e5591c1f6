import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import { orElse } from '../../../src/kernel/error.ts'
import { execute, until } from '../../support/host.ts'
import { cgroupOf, ended, hasRuntime, INTERCEDE, run, running, sh, start, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { stateOf, statFields } from '../../support/stat.ts'
import { Typist } from '../../support/typist.ts'

/** A number of seconds that no other process sleeps, by which a test finds its own. */
let seconds = 1_000_000 + process.pid
const unique = (): string => `${seconds++}.5`

const childrenOf = (pid: number | undefined): string[] =>
  readdirSync('/proc').filter((name) => /^\d+$/.test(name) && statFields(`/proc/${name}/stat`)[1] === String(pid))

/** Where the host has cgroup v2. */
const V2 = existsSync('/sys/fs/cgroup/unified') ? '/sys/fs/cgroup/unified' : '/sys/fs/cgroup'

const hasEnded = (pid: string): boolean => ['', 'Z', 'X'].includes(stateOf(pid))

const spawned = (args: readonly string[]): ChildProcess =>
  spawn(process.execPath, [INTERCEDE, 'run', ...args], { stdio: ['pipe', 'ignore', 'ignore'] })

const none = unable()
describe.skipIf(none).each(['crun', 'runc'] as const)(
  withReason('the end of intercede run with %s', none),
  (runtime) => {
    const wanted = ['--runtime', runtime]
    /** The moments of a start are shared out between the runtimes. */
    const turn = runtime === 'crun' ? 0 : 1
    beforeEach(({ skip }) => {
      if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    })

    test.each([
      { signal: 'SIGTERM', status: 143 },
      { signal: 'SIGINT', status: 130 },
      { signal: 'SIGHUP', status: 129 },
      { signal: 'SIGQUIT', status: 131 },
      { signal: 'SIGUSR1', status: 138 },
      { signal: 'SIGUSR2', status: 140 },
    ] as const)('$signal ends a command that has no handler, with $status', async ({ signal, status }) => {
      const child = await start([...wanted, ...sh('echo ready; exec sleep 60')])
      child.kill(signal)
      expect(await ended(child)).toBe(status)
      expect(cgroupOf(child.pid)).toEqual([])
    })

    test('what ignores SIGTERM is killed after --stop-timeout, what obeys late is not', async () => {
      const ignoring = await start([...wanted, '--stop-timeout', '1', ...sh('trap "" TERM; echo ready; sleep 60')])
      ignoring.kill('SIGTERM')
      expect(await ended(ignoring)).toBe(137)
      const late = await start([
        ...wanted,
        ...sh('trap "sleep 2; exit 4" TERM; echo ready; while :; do sleep 0.1; done'),
      ])
      late.kill('SIGTERM')
      expect(await ended(late)).toBe(4)
    })

    test('a second signal ends it where nobody reads what the command has written', async () => {
      const words = [INTERCEDE, 'run', ...wanted, 'yes']
      const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'ignore'] })
      // Both pipes are full, and the command waits.
      await until('it writes', () => Number(child.stdout!.readableLength) > 0, 30)
      await sleep(1000)
      child.kill('SIGTERM')
      await sleep(1000)
      expect(child.exitCode).toBe(null)
      const from = Date.now()
      child.kill('SIGTERM')
      // runc writes by itself, so it cannot end before it is killed, too.
      expect(await ended(child)).toBe(runtime === 'runc' ? 137 : 143)
      expect(Date.now() - from).toBeLessThan(8000)
    })

    test('a signal that comes twice at once, as through npx, is one request', async () => {
      const child = await start([
        ...wanted,
        ...sh('trap "sleep 1; exit 5" INT; echo ready; while :; do sleep 0.1; done'),
      ])
      child.kill('SIGINT')
      child.kill('SIGINT')
      expect(await ended(child)).toBe(5)
    })

    test('SIGHUP and SIGQUIT do not kill what goes on', async () => {
      const script = 'trap "echo again" HUP QUIT; echo ready; for i in $(seq 30); do sleep 0.1; done; exit 6'
      const child = await start([...wanted, '--stop-timeout', '0', ...sh(script)])
      for (const signal of ['SIGHUP', 'SIGQUIT', 'SIGHUP'] as const) {
        child.kill(signal)
        await sleep(300)
      }
      expect(await ended(child)).toBe(6)
    })

    test('nohup(1) has no effect', async () => {
      const time = unique()
      const args = [process.execPath, INTERCEDE, 'run', ...wanted, '--', 'sh', '-c', `echo ready; exec sleep ${time}`]
      const child = spawn('nohup', args, { stdio: ['pipe', 'pipe', 'ignore'] })
      await new Promise((resolve) => child.stdout.once('data', resolve))
      child.kill('SIGHUP')
      expect(await ended(child)).toBe(129)
    })

    test('timeout(1) ends it', async () => {
      const begin = Date.now()
      const args = ['2', process.execPath, INTERCEDE, 'run', ...wanted, '--', 'sleep', '60']
      expect((await execute('timeout', args)).status).toBe(124)
      expect(Date.now() - begin).toBeLessThan(10_000)
    })

    test('SIGKILL ends the container, its runtime and its engine, and leaves no cgroup', async () => {
      const time = unique()
      const groups = 'mount -t cgroup2 none /mnt && mkdir -p /mnt/a/b 2>/dev/null'
      const script = `${groups}; trap "" TERM HUP INT; echo ready; setsid sleep ${time}`
      const child = await start([...wanted, '-c', 'mknod', ...sh(script)])
      const children = childrenOf(child.pid)
      // The runtime, the guard and the engine.
      expect(children.length).toBeGreaterThan(2)
      expect([cgroupOf(child.pid).length, running(time).length > 0]).toEqual([1, true])
      child.kill('SIGKILL')
      await until('nothing is left', () => cgroupOf(child.pid).length + running(time).length === 0, 5)
      await until('its own processes have ended', () => children.every(hasEnded), 5)
    })

    test('SIGKILL after a signal to the guard too, as systemd stops a unit, leaves nothing', async () => {
      const time = unique()
      const child = await start([...wanted, ...sh(`trap "" TERM HUP INT; echo ready; setsid sleep ${time}`)])
      const guard = childrenOf(child.pid).filter((pid) => !running('--bundle').includes(pid))
      for (const pid of guard) process.kill(Number(pid), 'SIGTERM')
      await sleep(500)
      child.kill('SIGKILL')
      await until('nothing is left', () => cgroupOf(child.pid).length + running(time).length === 0, 5)
    })

    test('the end of all processes in its control group leaves nothing', async () => {
      const time = unique()
      const group = `${V2}/intercede-test-${process.pid}`
      mkdirSync(group)
      const words = [process.execPath, INTERCEDE, 'run', ...wanted, ...sh(`echo ready; exec sleep ${time}`)]
      const child = spawn('sh', ['-c', `echo $$ >${group}/cgroup.procs && exec "$0" "$@"`, ...words])
      await new Promise((resolve) => child.stdout.once('data', resolve))
      writeFileSync(`${group}/cgroup.kill`, '1')
      await until('nothing is left', () => cgroupOf(child.pid).length + running(time).length === 0, 5)
      await until('the group is empty', () => orElse(false, () => rmdirSync(group) === undefined))
    })

    test('SIGKILL of the runtime alone ends the container, too', async () => {
      const time = unique()
      const child = await start([...wanted, ...sh(`echo ready; exec sleep ${time}`)])
      const killed = childrenOf(child.pid).filter((pid) => running('--bundle').includes(pid))
      expect(killed).toHaveLength(1)
      process.kill(Number(killed[0]), 'SIGKILL')
      expect(await ended(child)).toBe(137)
      expect([...cgroupOf(child.pid), ...running(time)]).toEqual([])
    })

    test('SIGTERM at any moment of the start ends it soon', { timeout: 120_000 }, async () => {
      for (let delay = 300 + 40 * turn; delay <= 700; delay += 80) {
        const child = spawned([...wanted, '--', 'sleep', '60'])
        await sleep(delay)
        const begin = Date.now()
        child.kill('SIGTERM')
        // Before it listens to signals, it ends by them, and then its guard ends the rest.
        expect(child.signalCode ?? (await ended(child)) ?? 143).toBe(143)
        expect(Date.now() - begin, `after ${delay} ms`).toBeLessThan(5000)
      }
    })

    test('SIGKILL at any moment of the start leaves nothing', { timeout: 120_000 }, async () => {
      const time = unique()
      for (let delay = 60 + 30 * turn; delay <= 480; delay += 60) {
        const child = spawned([...wanted, '--', 'sleep', time])
        await sleep(delay)
        const children = childrenOf(child.pid)
        child.kill('SIGKILL')
        await until(
          `nothing is left after ${delay} ms`,
          () => cgroupOf(child.pid).length + running(time).length === 0,
          5,
        )
        await until('its own processes have ended', () => children.every(hasEnded), 5)
      }
    })

    test('its first process reaps what is left behind, and is the command itself with --no-init', () => {
      const zombies = 'grep -l "State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l'
      const { stdout } = run([...wanted, ...sh(`cat /proc/1/comm; (sleep 0.1 &); sleep 0.5; ${zombies}`)])
      expect(stdout).toBe('.intercede-init\n0\n')
      expect(run([...wanted, '--no-init', ...sh('cat /proc/1/comm')]).stdout).toBe('sh\n')
    })

    test.each([
      { command: ['no-such-command'], status: 127 },
      { command: ['/etc/passwd'], status: 126 },
      { command: sh('exit 7'), status: 7 },
      { command: sh("sh -c 'kill -9 $$'"), status: 137 },
    ])('with --no-init it ends with $status after $command, too', ({ command, status }) => {
      expect(run([...wanted, '--no-init', ...command]).status).toBe(status)
    })

    test('with --no-init what has no handler is killed after a while', async () => {
      const child = await start([...wanted, '--no-init', '--stop-timeout', '1', ...sh('echo ready; sleep 60')])
      child.kill('SIGTERM')
      expect(await ended(child)).toBe(137)
    })

    test.each([
      { what: 'what has no handler', trap: '' },
      { what: 'what ignores it, after --stop-timeout', trap: 'trap "" HUP TERM; ' },
    ])('a terminal that is closed ends $what', async ({ trap }) => {
      const time = unique()
      const user = new Typist()
      const command = `sh -c '${trap}echo rea""dy; sleep ${time}'`
      user.type(`node "${INTERCEDE}" run --runtime ${runtime} --stop-timeout 2 -- ${command}\n`)
      await user.sees(/ready/)
      user.hangUp()
      await until('nothing is left', () => running(time).length === 0, 8)
    })
  },
)
