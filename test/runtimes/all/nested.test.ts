import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { device, KEYS, NestedBundle, PROBE } from '../../support/nested-bundle.ts'
import { type Ended, hasRuntime, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const why = unable() ?? (device ? undefined : 'this machine has no device to spare')
const BPF = ['BPF_PROG_LOAD', 'BPF_PROG_ATTACH', 'BPF_PROG_QUERY', 'BPF_PROG_GET_FD_BY_ID']

const bundle = new NestedBundle()
afterAll(() => bundle.remove())
const RULES = [
  { allow: false, access: 'rwm' },
  { allow: true, access: 'rwm' },
]
bundle.write('rules.json', { devices: RULES })
const inside = (keys: readonly string[], script: string): Ended => bundle.inside(keys, script)

describe.skipIf(why)(withReason('a runtime inside of intercede run', why), () => {
  beforeEach(({ skip }) => {
    if (!hasRuntime('crun') && !hasRuntime('runc')) skip('no runtime is installed')
  })

  describe.each(['crun', 'runc'] as const)('%s', (runtime) => {
    beforeEach(({ skip }) => {
      if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    })
    const nested = `cp probe.json config.json; ${runtime} run probe </dev/zero`

    test('rules the devices of its containers', () => {
      const { stdout, stderr } = inside(KEYS, nested)
      expect(stdout).toBe('null opens\n')
      expect(stderr).toMatch(`can't open ${device}: Operation not permitted`)
    })

    test('without the keys it starts them without any rules, and the same probe opens the device', () => {
      expect(inside([], nested).stdout).toBe('null opens\ndevice opens\n')
    })

    test('ends a container and leaves nothing of it', () => {
      const script = `cp sleep.json config.json
        ${runtime} run -d one </dev/zero >out 2>&1
        ${runtime} exec one /bin/sh -c '${PROBE}' 2>/dev/null
        ${runtime} delete -f one
        find /sys/fs/cgroup -mindepth 1 -type d
        ${runtime} run -d two </dev/zero >out 2>&1
        ${runtime} exec two /bin/sh -c '${PROBE}' 2>/dev/null
        ${runtime} delete -f two; find /sys/fs/cgroup -mindepth 1 -type d`
      expect(inside(KEYS, script).stdout).toBe('null opens\nnull opens\n')
    })
  })

  test('crun changes the rules of a container that runs: it finds the program, opens it by its number, replaces it', ({
    skip,
  }) => {
    if (!hasRuntime('crun')) skip('crun is not installed')
    const probe = `crun exec one /bin/sh -c '${PROBE}' 2>/dev/null`
    const script = `cp sleep.json config.json; crun run -d one </dev/zero >out 2>&1; ${probe}
      strace -f -e trace=bpf -o trace crun update -r rules.json one; ${probe}; crun delete -f one
      for call in ${BPF.join(' ')} BPF_F_REPLACE; do grep -q "$call.*= [0-9]" trace && echo $call; done`
    const { stdout } = inside(KEYS, script)
    expect(stdout.split('\n')).toEqual(['null opens', 'null opens', 'device opens', ...BPF, 'BPF_F_REPLACE', ''])
  })

  const SYSTEMD = '/usr/lib/systemd/systemd'
  test('systemd rules the devices of a service', ({ skip }) => {
    if (!existsSync(SYSTEMD)) skip('systemd is not installed')
    const unit = [
      ...['[Unit]', 'DefaultDependencies=no', 'SuccessAction=exit-force', 'FailureAction=exit-force'],
      ...['[Service]', 'Type=oneshot', 'DevicePolicy=closed'],
      `ExecStart=/bin/sh -c 'exec >/root/said 2>&1; ${PROBE}'`,
    ]
    const script = `mkdir -p /run/systemd/system; cp probe.service /run/systemd/system
      container=other timeout -s KILL 20 unshare --pid --fork --kill-child --mount-proc \
        ${SYSTEMD} --system --unit=probe.service </dev/zero >out 2>&1 || true
      cat /root/said`
    writeFileSync(join(bundle.directory, 'probe.service'), unit.join('\n'))
    expect(inside(KEYS, script).stdout).toMatch(/^null opens\n.*Operation not permitted\n$/)
    expect(inside([], script).stdout).toBe('null opens\ndevice opens\n')
  })
})
