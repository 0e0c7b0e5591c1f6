import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { messageIds } from '../../../src/keeper/log/journal.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { type Done, USERNS, until } from '../../support/host.ts'
import { ServiceHost } from '../../support/service-host.ts'
import { withReason } from '../../support/skipped.ts'

const CATALOG = fileURLToPath(new URL('../../../deploy/journal/intercede.catalog', import.meta.url))
const JOURNAL = new URL('../../../out/keeper/log/journal.js', import.meta.url).href
const cannot = missing('systemctl', 'journalctl')

/** The files of the host stay as they are: the catalog is put over them for one command. */
const WITH_CATALOG = `mount -t tmpfs none /usr/local/lib && mkdir -p /usr/local/lib/systemd/catalog &&
cp "$0" /usr/local/lib/systemd/catalog/intercede.catalog && journalctl --update-catalog && journalctl "$@"`

type Line = Readonly<Record<string, string>>

describe.skipIf(cannot)(withReason('the log in the journal', cannot), { timeout: 120_000 }, () => {
  let host: ServiceHost
  const journal = async (...words: readonly string[]): Promise<readonly Line[]> => {
    const { stdout } = await host.run('journalctl', '-o', 'json', '--no-pager', ...words)
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  }
  /** A container that makes a device that is not allowed, and so on. */
  const container = (id: string, script: string): Promise<Done> => {
    const metadata = ['--metadata', 'security.syscalls.intercept.mknod=true']
    const options = ['--userns', USERNS, '--pidns', '--await-agent', ...metadata, '--id', id]
    return host.run(fixture('filtered'), host.socket, ...options, '--', 'sh', '-c', script)
  }
  const REFUSED = 'mknod /tmp/never c 1 1'

  beforeAll(async () => {
    host = await ServiceHost.start({ hasJournal: true })
    await container('first', REFUSED)
    await until('it is logged', async () => (await journal('INTERCEDE_CONTAINER_FULL=first')).length >= 3)
  }, 120_000)
  afterAll(() => host?.close())

  test('a call is found by container, call and reason, and says what to do', async () => {
    const [line] = await journal('INTERCEDE_CONTAINER_FULL=first', 'REASON=deviceNotAllowed', 'SYSCALL=mknodat')
    expect(line).toMatchObject({
      ...{ MESSAGE_ID: messageIds.refusedCall, PRIORITY: '5', SYSLOG_IDENTIFIER: 'intercede', VERDICT: 'left' },
      ...{ INTERCEDE_CONTAINER: 'first', _TRANSPORT: 'journal', _SYSTEMD_UNIT: 'intercede.service' },
      MESSAGE: expect.stringMatching(/^first: mknodat left to the kernel: the device 1:1 is not allowed; no key/),
      REMEDY: expect.stringContaining('no key allows it'),
    })
    const ids = (await journal('INTERCEDE_CONTAINER_FULL=first')).map((each) => each.MESSAGE_ID)
    expect(ids).toEqual([messageIds.registered, messageIds.refusedCall, messageIds.ended])
    const registered = await journal(`MESSAGE_ID=${messageIds.registered}`)
    expect(JSON.parse(registered[0]!.INTERCEDE_DETAILS!)).toMatchObject({ container: 'first' })
    expect(await journal('-u', 'intercede', '-p', 'notice', `MESSAGE_ID=${messageIds.registered}`)).toEqual([])
  })

  test('journalctl -x explains it', async () => {
    const words = ['-x', '--no-pager', '-o', 'short', 'INTERCEDE_CONTAINER_FULL=first', 'REASON=deviceNotAllowed']
    const { stdout, stderr, status } = await host.run(
      ...['unshare', '--mount', '--propagation', 'private', 'sh', '-c', WITH_CATALOG, CATALOG, ...words],
    )
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toContain('Subject: A call of container first was refused')
    expect(stdout).toContain('the device 1:1 is not allowed.')
    expect(stdout).toMatch(/What to do: no key allows it/)
  })

  test('what a container or its runtime chose is no field, and nothing of it is raw', async () => {
    const id = 'a\u001b[2J\nPRIORITY=0\nMESSAGE=forged'
    await container(id, REFUSED)
    const shown = 'a\\033[2J\\012PRIORITY=0\\012MESSAGE=forged'
    await until('it is logged', async () => (await journal(`INTERCEDE_CONTAINER_FULL=${shown}`)).length >= 3)
    expect(await journal('MESSAGE=forged')).toEqual([])
    const { stdout } = await host.run('journalctl', '--no-pager', '-o', 'cat', '-u', 'intercede')
    expect(stdout).toContain(shown)
    expect(stdout).not.toMatch(/[^\n -~]/)
    expect(stdout).not.toContain('blob data')
  })

  test('a line that no datagram holds comes as a file', async () => {
    const script = `const { JournalLog } = await import('${JOURNAL}')
const log = new JournalLog()
log.write({ level: 'info', message: 'large', kind: 'fault', details: { words: 'x'.repeat(2_000_000) } })
log.close()`
    const said = await host.run(process.execPath, '--input-type=module', '-e', script)
    expect(said).toMatchObject({ status: 0, stderr: '' })
    await until('it is there', async () => (await journal('MESSAGE=large')).length === 1)
    const { stdout } = await host.run('journalctl', '--no-pager', '-o', 'json', '--all', 'MESSAGE=large')
    expect(JSON.parse(JSON.parse(stdout).INTERCEDE_DETAILS).words).toHaveLength(2_000_000)
  })

  test('a journal that is stopped delays no call and loses no line; one that is killed neither', async () => {
    const pid = (): Promise<string> =>
      host.run('systemctl', 'show', '--value', '-p', 'MainPID', 'systemd-journald').then(({ stdout }) => stdout.trim())
    const many = (pause = ''): string =>
      `i=0; while [ $i -lt 100 ]; do mknod /nowhere/n c 10 $((300 + i)); i=$((i + 1)); ${pause} done 2>/dev/null`
    await host.run('kill', '-STOP', await pid())
    await container('stopped', many())
    await host.run('kill', '-CONT', await pid())
    const lines = (id: string): Promise<readonly Line[]> => journal(`INTERCEDE_CONTAINER_FULL=${id}`, 'SYSCALL=mknodat')
    await until('all are there', async () => (await lines('stopped')).length === 100)
    const before = await pid()
    const running = container('killed', many('sleep 0.02;'))
    await until('it calls', async () => (await lines('killed')).length > 5)
    await host.run('kill', '-KILL', before)
    await running
    await until('it runs again', async () => ![before, '0'].includes(await pid()))
    await container('after', REFUSED)
    await until('what comes later is there', async () => (await lines('after')).length === 1)
    // What it had taken, and not written, when it was killed is its own loss.
    expect((await lines('killed')).length).toBeGreaterThanOrEqual(99)
  })
})
