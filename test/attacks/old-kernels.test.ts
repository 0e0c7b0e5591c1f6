// A kernel that lacks a feature must not leave a nested container without the rules that its runtime sets: crun goes on
// without a word if bpf(2) fails in a user namespace. Each feature is taken away from a build, which then has to do without.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { device, KEYS, NestedBundle } from '../support/nested-bundle.ts'
import { PatchedBuild } from '../support/patched-build.ts'
import { hasRuntime, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'

const why = unable() ?? (device ? undefined : 'this machine has no device to spare')

describe.skipIf(why)(withReason('a nested container', why), () => {
  let bundle: NestedBundle
  let build: PatchedBuild
  beforeAll(() => {
    bundle = new NestedBundle()
    // The kernel itself then refuses the question (ENOTTY), as before 6.11.
    build = new PatchedBuild('abi/procmap.js', '_IOWR(0x66, 17,', '_IOWR(0x66, 99,')
  })
  afterAll(async () => {
    bundle.remove()
    await build.remove(undefined)
  })

  test.for(['crun', 'runc'] as const)('of %s is ruled on a kernel without PROCMAP_QUERY', (runtime, { skip }) => {
    if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    const { stdout, stderr } = bundle.inside(
      KEYS,
      `cp probe.json config.json; ${runtime} run probe </dev/zero`,
      build.program,
    )
    expect(stdout).toBe('null opens\n')
    expect(stderr).toMatch(`can't open ${device}: Operation not permitted`)
  })
})
