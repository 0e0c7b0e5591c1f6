// SIGUSR1 makes a process of Node open its inspector on a port of the host, and whoever connects runs code in it. Tasks of a container
// whose user namespace it shares can signal the walker; src/node_main_instance and src/inspector_agent.cc of Node.
import { spawn } from 'node:child_process'
import { chownSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { NO_INSPECTOR } from '../../src/processes/program-flags.ts'
import { Daemon } from '../support/daemon.ts'
import { fixture } from '../support/fixtures.ts'
import { BASE, Host, mknodPolicy, until } from '../support/host.ts'
import { walkersOf } from '../support/hostile.ts'
import { mounters } from '../support/mounters.ts'
import { sleep } from '../support/restart-world.ts'
import { stateOf } from '../support/stat.ts'

const LISTEN = '0A'
/** Longer than Node takes from the signal to the port. */
const SETTLED_MS = 500

/** The sockets of the host that listen, by inode. */
const listening = (): ReadonlySet<string> =>
  new Set(
    ['tcp', 'tcp6'].flatMap((name) =>
      readFileSync(`/proc/net/${name}`, 'latin1')
        .split('\n')
        .map((line) => line.trim().split(/ +/))
        .filter((fields) => fields[3] === LISTEN)
        .map((fields) => fields[9] ?? ''),
    ),
  )

const sockets = (pid: number): readonly string[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? []
    } catch {
      return [] // It was closed meanwhile.
    }
  })

async function listensAfterSignal(pid: number): Promise<boolean> {
  process.kill(pid, 'SIGUSR1')
  await sleep(SETTLED_MS)
  expect(stateOf(pid)).toMatch(/[RSD]/)
  const all = listening()
  return sockets(pid).some((inode) => all.has(inode))
}

test('Node by itself listens, so this test can fail', async () => {
  const child = spawn(process.execPath, ['--inspect-port=0', '-e', 'console.log(1); setTimeout(() => {}, 60000)'])
  onTestFinished(() => void child.kill('SIGKILL'))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  expect(await listensAfterSignal(child.pid!)).toBe(true)
})

test('the daemon and its engine open no inspector', async () => {
  const daemon = await Daemon.start()
  onTestFinished(() => daemon.close())
  expect(await listensAfterSignal(daemon.pid!)).toBe(false)
  expect(await listensAfterSignal(daemon.engine)).toBe(false)
  expect(daemon.said.join('\n')).not.toMatch(/inspector|Debugger/)
})

test('walkers and mounters open no inspector', async () => {
  const mount = { allowed: new Set(['hugetlbfs']), fuse: new Map(), shift: false, nodev: true }
  const host = await Host.start({ ...mknodPolicy, mount })
  onTestFinished(() => host.close())
  const at = (name: string): string => join(host.directory, name)
  for (const [index, path] of ['theirs', 'theirs/deep'].entries()) {
    mkdirSync(at(path), { mode: 0o700 })
    chownSync(at(path), BASE + 1000 + index, BASE + 1000)
  }
  const options = ['--pidns', '--uid', '5', '--gid', '5', '--keep-caps']
  // The walker ends with its container.
  const call = `${fixture('caller')} mknod ${at('theirs/deep/n')} 020666 1 3; exec sleep 5`
  const walking = host.run(options, ['sh', '-c', call])
  await host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', 'mount -t hugetlbfs none /mnt; umount /mnt'])
  await until('both have started', () => walkersOf(host.enginePid).length > 0 && mounters(host.enginePid).length > 0)
  for (const pid of [...walkersOf(host.enginePid), ...mounters(host.enginePid).map(Number)]) {
    expect(readFileSync(`/proc/${pid}/cmdline`, 'latin1')).toContain(`\0${NO_INSPECTOR}\0`)
    expect(await listensAfterSignal(pid)).toBe(false)
  }
  await walking
})

test('their option opens none before they are loaded either', async () => {
  const child = spawn(process.execPath, [NO_INSPECTOR, '-e', 'console.log(1); setTimeout(() => {}, 60000)'])
  onTestFinished(() => void child.kill('SIGKILL'))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  expect(await listensAfterSignal(child.pid!)).toBe(false)
})
