import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixture, missing, no32 } from '../../support/fixtures.ts'
import { Machine } from '../../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../../support/podman.ts'
import { withReason } from '../../support/skipped.ts'

/** What podman gives a container by itself: the base of the merged profile. */
const STOCK = '/usr/share/containers/seccomp.json'
const BASES = new URL('../../../src/filter/bases/', import.meta.url)
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
async function probe(
  profile: string,
  capabilities: readonly string[],
  program: string,
  others: readonly string[] = [],
): Promise<readonly string[]> {
  const caps = capabilities.map((cap) => `--cap-add=${cap}`)
  const options = ['--userns=auto', `--security-opt=seccomp=${profile}`, ...others, ...caps]
  const { status, stdout, stderr } = await podman.run('run', ...USUAL, ...options, 'test', program, NUMBERS)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return stdout
    .trim()
    .split('\n')
    .filter((line) => !OPENED.test(line))
}

/** The published rules, whose conditions on capabilities podman resolves itself, with the code that CRI-O has. */
const publishedBy = (engine: string): string => fileURLToPath(new URL(`${engine}.json`, BASES))
const engines = ['containerd', 'cri-o'].flatMap((engine) =>
  (no32 ? ['probe'] : ['probe', 'probe32']).map((program) => ({ engine, program })),
)

test.skipIf(absent).each(engines)(
  withReason(`a profile for Kubernetes on top of RuntimeDefault of $engine says to $program what that says`, absent),
  async ({ engine, program }) => {
    const resolved = await writeProfile(machine, `${engine}.json`, ['--runtime', 'runc', '--base', engine, ...KEYS])
    const published = publishedBy(engine)
    const { caps } = JSON.parse(readFileSync(published, 'utf8')) as { readonly caps: readonly string[] }
    const before = await probe(published, caps, program, ['--cap-drop=all'])
    const refused = before.filter((line) => line.endsWith(engine === 'cri-o' ? 'errno 38' : 'errno 1'))
    expect(refused.length).toBeGreaterThan(50)
    expect(await probe(resolved, caps, program, ['--cap-drop=all'])).toEqual(before)
  },
)

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
