import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLI, Maker } from '../../support/daemon.ts'
import { missing } from '../../support/fixtures.ts'
import { BASE, until } from '../../support/host.ts'
import { ServiceHost } from '../../support/service-host.ts'
import { withReason } from '../../support/skipped.ts'
import { rootOnly } from '../../support/user.ts'

const SYSUSERS = fileURLToPath(new URL('../../../deploy/systemd/sysusers.conf', import.meta.url))
/** The kernel chooses one: nobody asks there. */
const NO_PORT = 0
const ADDRESS = 'http://localhost/v1/events?tail=0'
const cannot = missing('systemctl', 'curl') ?? rootOnly()

describe.skipIf(cannot)(
  withReason('events, while processes of the daemon are killed', cannot),
  {
    timeout: 180_000,
  },
  () => {
    let host: ServiceHost
    let maker: Maker
    const children: ChildProcess[] = []
    let directory: string

    /** Starts a program there, and collects the lines of JSON that it prints. */
    function following(...command: readonly string[]): () => readonly Record<string, unknown>[] {
      const [program, ...words] = [...host.within, ...command]
      const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
      children.push(child)
      let said = ''
      child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
      return () =>
        said
          .split('\n')
          .slice(0, -1)
          .map((line) => JSON.parse(line))
    }
    const kill = async (pid: string): Promise<void> => {
      expect((await host.run('kill', '-KILL', pid)).status).toBe(0)
    }
    const api = async (): Promise<string> =>
      (await host.run('systemctl', 'show', '--value', '-p', 'MainPID', 'intercede-api.service')).stdout.trim()
    const engine = async (): Promise<string> =>
      (await host.run(process.execPath, CLI, 'status', '--format', '{engine}')).stdout.trim()

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'intercede-events-'))
      chownSync(directory, BASE, BASE)
      host = await ServiceHost.start({ apiPort: NO_PORT })
      const users = 'mkdir -p /etc/sysusers.d && cp "$0" /etc/sysusers.d/intercede.conf && systemd-sysusers'
      await host.run('sh', '-c', users, SYSUSERS)
      expect((await host.run('systemctl', 'start', 'intercede-api.socket')).stderr).toBe('')
      const on = ['--metadata', 'security.syscalls.intercept.mknod=true']
      maker = new Maker({ socket: host.socket, directory }, on, host.within)
      expect(await maker.make()).toBe('ok')
    }, 120_000)
    afterAll(async () => {
      for (const child of children) child.kill('SIGKILL')
      maker?.end()
      await host?.close()
      rmSync(directory, { recursive: true, force: true })
    })

    test('both go on over the end of engine and keeper, and say what has happened', async () => {
      const command = following(process.execPath, CLI, 'events', '--format', 'json', '--tail', '0')
      const stream = following('curl', '-sN', '--unix-socket', '/run/intercede/view.sock', ADDRESS)
      const both = [command, stream]
      const calls = async (count: number): Promise<void> => {
        await until('both show the call', () =>
          both.every((events) => events().filter(({ type }) => type === 'call').length === count),
        )
      }
      // They begin with what comes.
      await until('the api answers', async () => (await api()) !== '0')
      await new Promise((resolve) => setTimeout(resolve, 2000))
      expect(await maker.make()).toBe('ok')
      await calls(1)

      await kill(await engine())
      expect(await maker.make()).toBe('ok')
      await calls(2)
      for (const events of both)
        expect(events().find(({ type }) => type === 'engineEnded')?.message).toMatch(/^the engine .*SIGKILL/)

      await kill(await host.property('MainPID'))
      expect(await maker.make()).toBe('ok')
      await calls(3)
      await until('both say that it is another process', () =>
        both.every((events) => events().some(({ type }) => type === 'restarted')),
      )
      for (const events of both) {
        expect(events().filter(({ type }) => type === 'resumed')).toHaveLength(1)
        expect(events().filter(({ type }) => type === 'lost')).toEqual([])
      }

      const cursor = stream().findLast((event) => event.cursor !== undefined)!.cursor
      await kill(await api())
      expect(await maker.make()).toBe('ok')
      await until('the command shows the call', () => command().filter(({ type }) => type === 'call').length === 4)
      const later = following(
        ...['curl', '-sN', '--unix-socket', '/run/intercede/view.sock', `http://localhost/v1/events?after=${cursor}`],
      )
      await until('another stream goes on after the cursor', () => later().some(({ type }) => type === 'call'))
      expect(later().filter(({ type }) => type === 'call')).toHaveLength(1)

      // Nothing of it is kept then.
      expect((await host.run('systemctl', 'stop', 'intercede.service')).status).toBe(0)
      expect((await host.run('systemctl', 'start', 'intercede.service')).status).toBe(0)
      await until('the command goes on with another one', () =>
        command().some(({ message }) => message === 'another daemon serves now'),
      )
    })
  },
)
