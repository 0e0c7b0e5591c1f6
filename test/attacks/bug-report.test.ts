/*
 * What somebody puts into a unit of the service, or lets `doctor --bundle` read, gets into an archive that root sends to others.
 */
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FeedSocket } from '../../src/keeper/feed/readers.ts'
import { openMemory, openRecords } from '../../src/keeper/persist/memories.ts'
import { PersistedState } from '../../src/keeper/persist/persisted-state.ts'
import { Reactor } from '../../src/keeper/process/reactor.ts'
import { DirectoryWriter } from '../../src/memories/directory.ts'
import { CLI } from '../support/daemon.ts'
import { missing } from '../support/fixtures.ts'
import { execute } from '../support/host.ts'
import { ServiceHost } from '../support/service-host.ts'
import { withReason } from '../support/skipped.ts'

const NOBODY = 65534

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'intercede-report-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** All ways to have a secret in a unit, or to hide it from who looks for `Environment=` at the beginning of a line. */
const DROP_IN = String.raw`[Service]
Environment=A=SECRET1 \
  TOKEN=SECRET2
Environment = "THIRD=SECRET3"
SetCredential=token:SECRET4
#Environment=OLD=SECRET5
; SetCredential=old:SECRET6
ExecStartPre=-/bin/true --token SECRET7
Environment="B=x" \
# SECRET8 in a comment that a line goes on after
  "C=SECRET9"
`

const noSystemd = missing('systemctl', 'systemd-analyze')
test.skipIf(noSystemd)(withReason('no secret of a unit gets into it', noSystemd), async () => {
  const host = await ServiceHost.start()
  try {
    const unit = '/etc/systemd/system/intercede.service.d'
    await host.run('sh', '-c', `cat >${unit}/secret.conf <<'END'\n${DROP_IN}END\nsystemctl daemon-reload`)
    const { stdout } = await host.run('systemctl', 'show', '--property=Environment,ExecStartPre', 'intercede.service')
    for (const secret of [1, 2, 3, 7, 9]) expect(stdout).toContain(`SECRET${secret}`)
    const file = join(folder, 'b.tar')
    expect(await host.run(process.execPath, CLI, 'doctor', '--bundle', file)).toMatchObject({ status: 0 })
    const archive = readFileSync(file, 'latin1')
    expect(archive).toMatch(/^Id=intercede\.service$/m)
    expect(archive).toMatch(/^FileDescriptorStoreMax=16384$/m)
    expect(archive).not.toContain('SECRET')
  } finally {
    await host.close()
  }
})

test('nor what a systemctl says that was not asked', async () => {
  const said = `Id=intercede.service\nDescription=a\nSECRET1\n${DROP_IN}\nMainPID=1`
  writeFileSync(join(folder, 'systemctl'), `#!/bin/sh\n[ "$1" = --version ] || cat <<'END'\n${said}\nEND\n`, {
    mode: 0o755,
  })
  const file = join(folder, 'b.tar')
  const env = { ...process.env, PATH: `${folder}:${process.env.PATH}` }
  expect(await execute(process.execPath, [CLI, 'doctor', '--bundle', file], { env })).toMatchObject({ status: 0 })
  const archive = readFileSync(file, 'latin1')
  expect(archive).toContain('Id=intercede.service\n')
  expect(archive).not.toContain('SECRET')
})

test('nor a file that the daemon of another user names, whoever owns its socket', async () => {
  const [path, secret] = [join(folder, 'feed.sock'), join(folder, 'secret')]
  writeFileSync(secret, 'SECRET', { mode: 0o600 })
  chmodSync(folder, 0o777)
  const state = new PersistedState(undefined)
  const { fd, memory } = openMemory(state, 'directory')
  new DirectoryWriter(memory).daemon({ configPath: secret })
  const memories = { records: openRecords(state, 1024).fd, counts: openMemory(state, 'counts').fd, directory: fd }
  const reactor = new Reactor()
  process.seteuid!(NOBODY)
  const socket = new FeedSocket(reactor, path, memories, state)
  process.seteuid!(0)
  try {
    chownSync(path, 0, 0)
    const file = join(folder, 'b.tar')
    const { status, stderr } = await execute(process.execPath, [CLI, 'doctor', '--bundle', file, '--feed', path])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const archive = readFileSync(file, 'latin1')
    expect(archive).not.toContain('containers.json.missing')
    expect(archive).not.toContain('SECRET')
  } finally {
    socket.close()
    reactor.close()
  }
})
