import { copyFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BPF } from '../../../src/abi/bpf.ts'
import { type Attr, attr, DENY, DIRECTORY, loading } from '../../support/bpf-world.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { execute, until } from '../../support/host.ts'
import { Lxc } from '../../support/lxc.ts'
import { BASE, Machine } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const absent = missing('lxc-start')

let machine: Machine
let lxc: Lxc
beforeAll(async () => {
  if (absent) return
  machine = new Machine()
  copyFileSync(fixture('bpf-calls', ['-static']), join(machine.rootfs, 'bin/bpf-calls'))
  await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await execute('chmod', ['1777', join(machine.rootfs, 'tmp')])
  await machine.serve()
  lxc = await Lxc.make(machine, `it-lxc-bpf-${process.pid}`, ['mknod', 'bpf', 'bpf.devices'])
  expect(await lxc.start()).toBe(0)
  await until('init is there', () => existsSync(join(machine.rootfs, `tmp/${lxc.name}.ready`)), 10)
})
afterAll(async () => {
  await lxc?.stop()
  await machine?.close()
})

/** A line for the fixture. */
const call = (command: number, { bytes, buffers = [] }: Attr): string =>
  `bpf ${command} ${bytes.length} ${Buffer.from(bytes).toString('hex')} ${buffers.join(' ')}`

test.skipIf(absent)(withReason('a container of LXC rules the devices of a group of its own', absent), async () => {
  const group = '/tmp/groups/below'
  await lxc.ask('busybox mkdir /tmp/groups; busybox mount -t cgroup2 none /tmp/groups')
  // Descriptors 3 and 4 are the first that the fixture opens.
  const lines = [
    call(BPF.PROG_LOAD, loading(DENY)),
    `open ${group} ${DIRECTORY}`,
    call(BPF.PROG_ATTACH, attr(20, { 0: 4, 4: 3, 8: 6, 12: 2 })),
  ]
  const asked = lines.map((line) => `echo '${line}'`).join('; ')
  const { said } = await lxc.ask(`busybox mkdir ${group}; (${asked}) | bpf-calls | busybox cut -d ' ' -f 1,2`)
  expect(said).toBe('ok 3\nok 4\nok 0\n')
  const probe = `true </tmp/${lxc.name}.device && echo opens`
  expect((await lxc.ask(probe)).said).toBe('opens\n')
  expect((await lxc.ask(`sh -c 'echo 0 >${group}/cgroup.procs; ${probe}'`)).said).toMatch(/Operation not permitted/)
})
