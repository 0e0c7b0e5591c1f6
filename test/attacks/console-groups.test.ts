// A container gets the console of the host by somebody whom its device rules do not bind: it passes a directory with a node 5:1,
// or lets that be found, and the other one opens it and passes it back (linux/fs/namei.c may_open_dev()). What a container makes
// is a mount that nobody opens, whose nodev is locked, and nothing but an empty file below it.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixture } from '../support/fixtures.ts'
import { BASE, directory, execute, Host, mknodPolicy, USERNS, until } from '../support/host.ts'

const CLOSED = '5:1 open=EACCES\n'
let host: Host
let serial = 0
beforeAll(async () => {
  host = await Host.start(mknodPolicy)
})
afterAll(() => host.close())

/** For everybody, so nothing but the node keeps others from opening it. */
const making = (path: string): string => `umask 0; ${fixture('caller')} mknod ${path} 020666 5 1`
/** A command in a mount namespace of its container's. */
const inMounts = (script: string): readonly string[] => ['unshare', '--mount', 'sh', '-c', script]
const newDirectory = (): string => directory(join(host.directory, `d${serial++}`), BASE, 0o777)

test('is made, opens for nobody in the container, and is gone with its mount', async () => {
  const path = join(newDirectory(), 'console')
  const script = `${making(path)}; stat -c '%t:%T %a %u' ${path}; (: <>${path}) 2>/dev/null || echo closed
    rm ${path} 2>/dev/null || echo busy; umount ${path}; stat -c '%F %s' ${path}; rm ${path} && echo gone`
  const { stdout } = await host.run([], inMounts(script))
  expect(stdout).toBe('{"ok":true}\n5:1 666 0\nclosed\nbusy\nregular empty file 0\ngone\n')
})

test('stays closed, whatever root of the container does with the mount', async () => {
  const place = newDirectory()
  const tried = `touch ${place}/file; ${making(`${place}/console`)}; ${fixture('closed-node')} tricks ${place}/console ${place}/file`
  const { stdout } = await host.run([], inMounts(tried))
  const [ways, copied] = [['remount', 'setattr', 'clone', 'userns'], 'bind change=ENOENT open=EACCES']
  const refused = [...ways.map((name) => `${name} change=EPERM open=EACCES`), copied]
  expect(stdout.trim().split('\n').sort()).toEqual(['{"ok":true}', ...refused, 'unmount change=ok open=ok'].sort())
})

test('is refused with a reason of its own in the mount namespace of the host, where nothing is mounted', async () => {
  const path = join(newDirectory(), 'console')
  const { result, records } = await host.call(['mknod', path, '020666', '5', '1'])
  expect([result, records.map(({ reason }) => reason)]).toEqual(['EPERM', ['hostMounts']])
  expect(() => statSync(path)).toThrow('ENOENT')
})

test('another way of the mount, or another mount namespace, has an empty file', async () => {
  const path = join(newDirectory(), 'console')
  const { stdout } = await host.run([], inMounts(making(path)))
  expect([stdout, statSync(path).isFile(), statSync(path).size]).toEqual(['{"ok":true}\n', true, 0])
})

describe('is opened by nobody outside of the container', () => {
  let name: string
  let container: ChildProcess
  let place: string
  /** Starts a container that makes the node, and passes its directory. */
  beforeEach(async () => {
    name = `intercede-console-${process.pid}-${serial++}`
    place = newDirectory()
    const script = `${making(`${place}/console`)} >${place}/said; exec ${fixture('closed-node')} send ${name} ${place}`
    const args = [host.socket, '--userns', USERNS, '--await-agent', '--', ...inMounts(script)]
    container = spawn(fixture('filtered'), args, { stdio: ['pipe', 'inherit', 'inherit'] })
    await until(
      'it is made',
      () => existsSync(join(place, 'said')) && readFileSync(join(place, 'said'), 'utf8') === '{"ok":true}\n',
    )
    return async () => {
      if (container.exitCode !== null) return
      const ended = new Promise((resolve) => container.once('exit', resolve))
      container.kill('SIGKILL')
      await ended
    }
  })

  test('a user of the host who was passed the directory', async () => {
    const setpriv = [
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      fixture('closed-node'),
      'open',
      name,
      'console',
    ]
    expect(await execute('setpriv', setpriv)).toMatchObject({ stdout: CLOSED, stderr: '' })
  })

  test('a container beside it, with ids and control groups of its own', async () => {
    const args = [host.socket, '--userns', '300000:65536', '--await-agent', '--', fixture('closed-node'), 'open', name]
    expect(await execute(fixture('filtered'), [...args, 'console'])).toMatchObject({ stdout: CLOSED, stderr: '' })
  })

  test('one of its user namespace that finds it by /proc/PID/root', async () => {
    const [pid] = readFileSync(`/proc/${container.pid}/task/${container.pid}/children`, 'latin1').split(' ')
    const path = `/proc/${pid || container.pid}/root${place}/console`
    const script = `stat -c %t:%T ${path}; (: <>${path}) 2>/dev/null && echo opens || echo closed`
    const entering = [
      '--user',
      '--target',
      String(pid || container.pid),
      '--setuid=0',
      '--setgid=0',
      'sh',
      '-c',
      script,
    ]
    expect((await execute('nsenter', entering)).stdout).toBe('5:1\nclosed\n')
  })
})
