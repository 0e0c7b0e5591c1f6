import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixture, missing, no32 } from '../../support/fixtures.ts'
import { Machine } from '../../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../../support/podman.ts'
import { withReason } from '../../support/skipped.ts'

/** What podman gives a container by itself: the base of the merged profile. */
const STOCK = '/usr/share/containers/seccomp.json'
const KEYS = ['mknod', 'setxattr', 'sysinfo', 'sched_setscheduler'].flatMap((key) => ['-c', key])
/** Beyond the newest call of today, so that what a filter says to unknown ones is compared too. */
const NUMBERS = '500'
/** setxattrat(2) is newer than podman's profile, which therefore denies it. We trap it, and so the kernel judges. */
const OPENED = /^463 /
const absent = missing('podman', 'crun', 'gcc', 'busybox')

let machine: Machine
let podman: Podman
let merged: string
beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  copyFileSync(fixture('probe-calls', ['-static']), join(machine.rootfs, 'bin/probe'))
  if (!no32) {
    copyFileSync(fixture('probe-calls', ['-static', '-m32']), join(machine.rootfs, 'bin/probe32'))
  }
  await machine.serve()
  podman = await Podman.start(machine)
  merged = await writeProfile(machine, 'merged.json', ['--runtime', 'podman', '--base', STOCK, ...KEYS])
})
afterAll(async () => {
  await podman?.close()
  await machine.close()
})

/** What a container says under a profile. */
async function probe(profile: string, capabilities: readonly string[], program: string): Promise<readonly string[]> {
  const caps = capabilities.map((cap) => `--cap-add=${cap}`)
  const options = ['--userns=auto', `--security-opt=seccomp=${profile}`, ...caps]
  const { status, stdout, stderr } = await podman.run('run', ...USUAL, ...options, 'test', program, NUMBERS)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return stdout
    .trim()
    .split('\n')
    .filter((line) => !OPENED.test(line))
}

test.skipIf(absent).each(
  (no32 ? ['probe'] : ['probe', 'probe32']).flatMap((program) => [
    { program, capabilities: [] },
    { program, capabilities: ['MKNOD', 'SYS_ADMIN', 'SYS_NICE'] },
  ]),
)(
  withReason(
    `podman: $program says of ${NUMBERS} calls with $capabilities what it says under the stock profile`,
    absent,
  ),
  async ({ program, capabilities }) => {
    const before = await probe(STOCK, capabilities, program)
    expect(before).toHaveLength(Number(NUMBERS) - 1)
    // The stock profile denies by EPERM what it knows and by ENOSYS what it does not.
    expect(before.filter((line) => line.endsWith('errno 1')).length).toBeGreaterThan(10)
    expect(await probe(merged, capabilities, program)).toEqual(before)
  },
)
