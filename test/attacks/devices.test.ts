// A dynamic number of mknod.devices that is an input device, a watchdog or a disk here: refused, by the names of fs/char_dev.c.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { makedev } from '../../src/abi/stat.ts'
import { explain, why } from '../../src/calls/reasons.ts'
import { deviceNames } from '../../src/kernel/device-names.ts'
import { wantedKey } from '../../src/memories/refusal-view.ts'
import { CLI, Daemon, Maker } from '../support/daemon.ts'
import { until } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const KEY = 'security.syscalls.intercept.mknod.devices'
const WANTED = /^(hidraw|watchdog|mei|bsg|rtc|gpiochip|nvme-generic|dax|ndctl|cpu_dma_latency|btrfs-control)$/

/** Those of this machine, with a number that they have. */
function present(file: string, numberOf: (number: number) => readonly [number, number]) {
  const [characters = ''] = readFileSync(file, 'latin1').split('Block devices:')
  const lines = [...characters.matchAll(/^ *(\d+) (\S+)$/gm)].filter(([, , name]) => WANTED.test(name!))
  return lines.map(([, number, name]) => ({ name: name!, dev: numberOf(Number(number)) }))
}
const refused = [
  ...present('/proc/devices', (number) => [number, 0]),
  // Below 256 it is known by its number.
  ...present('/proc/misc', (number) => [10, number]).filter(({ dev }) => dev[1] > 255),
].map(({ name, dev: [maj, min] }) => ({ name, maj, min, number: `c:${maj}:${min}` }))
const none = refused.length === 0 ? 'this machine has none of them' : undefined

const cli = (...args: readonly string[]) => spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8' })

describe.skipIf(none)(withReason('device numbers that the kernel has given out', none), () => {
  test.each(refused)('$number is $name, and refused by run, profile and serve', ({ name, maj, min, number }) => {
    expect(deviceNames(makedev(maj, min))).toContain(name)
    const says = `${KEY} has ${number}, which is "${name}" on this host: it would give the container `
    const keys = ['-c', 'mknod', '-c', `mknod.devices=c:10:200,${number}`]
    expect(cli('run', ...keys, '--', 'true')).toMatchObject({ status: 2, stderr: expect.stringContaining(says) })
    expect(cli('profile', ...keys)).toMatchObject({ status: 2, stderr: expect.stringContaining(says) })
    const directory = mkdtempSync(join(tmpdir(), 'intercede-devices-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const file = join(directory, 'config.yaml')
    writeFileSync(file, `profiles: { a: { mknod: true, mknod.devices: '${number}' } }\n`)
    const socket = join(directory, 'oci.sock')
    for (const [status, ...what] of [
      [1, '--check-config'],
      [125, '--socket', socket],
    ] as const)
      expect(cli('serve', '--config', file, ...what)).toMatchObject({
        status,
        stderr: expect.stringContaining(says),
      })
  })

  test.each(refused)('nobody is told to add $number, which is $name', ({ maj, min }) => {
    const reason = why('deviceNotAllowed', maj, min)
    expect(explain(reason).remedy).toMatch(/^no key allows it, since it would give the container /)
    expect(wantedKey(reason)).toBeUndefined()
  })

  test('a container whose own profile lists one is not served, and the log says why', async () => {
    const [{ number, name } = refused[0]!] = refused
    const daemon = await Daemon.start()
    onTestFinished(() => daemon.close())
    const metadata = `security.syscalls.intercept.mknod=true\n${KEY}=${number}`
    expect(await new Maker(daemon, ['--metadata', metadata, '--id', 'greedy']).once()).toBe('Operation not permitted')
    await until('it is said', () =>
      daemon.log.some(
        ({ message }) => String(message).includes(`container greedy: `) && String(message).includes(name),
      ),
    )
  })
})

test('devices that everybody has keep their names, and may be listed', () => {
  expect(deviceNames(makedev(1, 3))).toContain('null')
  expect(deviceNames(makedev(5, 2))).toContain('ptmx')
  expect(wantedKey(why('deviceNotAllowed', 10, 200))).toEqual({ key: 'mknod.devices', value: 'c:10:200' })
  expect(cli('profile', '-c', 'mknod', '-c', 'mknod.devices=c:5:2,c:10:200,c:10:229,c:10:237')).toMatchObject({
    status: 0,
    stderr: '',
  })
})
