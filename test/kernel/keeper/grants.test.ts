import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { type Done, execute } from '../../support/host.ts'

const OFF = ['--metadata', 'security.syscalls.intercept.mknod=false']
const SHORT = '5288d75d3d2f'
const VICTIM = SHORT.padEnd(64, 'a')
const TENANT = 'b'.repeat(64)

let daemon: Daemon
const makers: Maker[] = []
const feed = (): string => join(daemon.directory, 'feed.sock')
const intercede = (command: string, ...args: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, command, '--feed', feed(), ...args])

beforeAll(async () => {
  daemon = await Daemon.start()
  const named = ['--annotation', `io.kubernetes.cri.container-name=${SHORT}`]
  makers.push(new Maker(daemon, [...OFF, '--id', VICTIM]), new Maker(daemon, [...OFF, '--id', TENANT, ...named]))
  for (const maker of makers) expect(await maker.make()).toBe('Operation not permitted')
})
afterAll(async () => {
  for (const maker of makers) maker.end()
  await daemon.close()
})

test('a name that another container has chosen steals no order', async () => {
  const refused = await intercede('set', SHORT, 'mknod')
  expect(refused).toEqual({
    ...{ status: 125, stdout: '' },
    stderr: `intercede: Cannot tell which container "${SHORT}" is: it is the name of ${TENANT} and the beginning of ${VICTIM}; give the whole id\n`,
  })
  const { stdout } = await intercede('explain', '--format', '{set}')
  expect(stdout.trim().split('\n').sort()).toEqual([
    `intercede set ${VICTIM} mknod=true`,
    `intercede set ${TENANT.slice(0, 12)} mknod=true`,
  ])
  const done = await intercede('set', VICTIM, 'mknod')
  expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(`^${SHORT}\n  security.*mknod: true`) })
  expect(await makers[0]!.make()).toBe('ok')
  expect(await makers[1]!.make()).toBe('Operation not permitted')
  expect((await intercede('set', TENANT, '--unset', 'mknod')).status).toBe(125)
  const other = await intercede('set', TENANT, 'mknod=false')
  expect(other.stdout).toMatch(new RegExp(`^${TENANT.slice(0, 12)} \\(${SHORT}\\)\n`))
})
