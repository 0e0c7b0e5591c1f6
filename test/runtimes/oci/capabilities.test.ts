import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { steps } from '../../../src/calls/steps.ts'
import { maskOf, named, Sampler, undeclared } from '../../support/capability-samples.ts'
import { missing } from '../../support/fixtures.ts'
import { Images } from '../../support/images.ts'
import { ended, hasRuntime, sh, start, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { statFields } from '../../support/stat.ts'

const cannot =
  unable() ?? missing('gcc', 'losetup', 'mkfs.ext4', 'fuse2fs') ?? (hasRuntime('crun') ? undefined : 'crun is missing')

let images: Images
beforeAll(() => {
  if (!cannot) images = new Images()
})
afterAll(() => images?.[Symbol.dispose]())

/** The engine that a process has started. */
function engineOf(pid: number): number {
  const engine = readdirSync('/proc').find(
    (name) =>
      statFields(`/proc/${name}/stat`)[1] === `${pid}` &&
      readFileSync(`/proc/${name}/cmdline`, 'latin1').includes('engine/main'),
  )
  if (engine === undefined) throw new Error(`${pid} has started no engine`)
  return Number(engine)
}

test.skipIf(cannot)(withReason('fuse: nothing is in effect but what it declares', cannot), async () => {
  const device = images.device('ext4')
  const script = `echo ready; read line; mkdir a && mount -i -t ext4 -o ro ${device} a && cat a/hello; read line; umount a`
  const options = ['--runtime', 'crun', '-c', 'mount', '-c', 'mount.fuse=ext4=fuse2fs', '--device', device]
  const child = await start([...options, ...sh(script)])
  const over = ended(child)
  const sampler = await Sampler.attach(engineOf(child.pid!))
  try {
    const said = once(child.stdout!, 'data')
    child.stdin!.write('\n')
    expect(`${(await said)[0]}`).toBe('hello\n')
    const samples = await sampler.take()
    const seen = samples.map(({ call, effective }) => `${call} with ${named(effective)}`)
    expect(seen).toContain(`setns with ${named(maskOf(steps.attachMount))}`)
    expect(seen).toContain(`mount_setattr with ${named(maskOf(steps.attachMount))}`)
    expect(undeclared('fuse', samples)).toEqual([])
  } finally {
    await sampler.end()
    child.stdin!.end('\n')
    expect(await over).toBe(0)
  }
})
