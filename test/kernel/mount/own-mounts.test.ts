import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { mountPoints } from '../../../src/processes/own-mounts.ts'
import { execute } from '../../support/host.ts'

const ENTER = `
  import { readFileSync } from 'node:fs'
  import { enterOwnMounts } from '${new URL('../../../out/processes/own-mounts.js', import.meta.url).href}'
  const points = () => readFileSync('/proc/self/mountinfo', 'latin1').trim().split('\\n').map((line) => line.split(' ')[4])
  const before = points()
  enterOwnMounts(['/proc'], ['/sys'])
  console.log(JSON.stringify([before, points()]))`

/** The mount points that a process has before and after it enters mounts of its own. */
async function enter(
  prepare: string,
  options: readonly string[] = [],
): Promise<readonly [before: readonly string[], after: readonly string[]]> {
  const script = `${prepare} "$0" --input-type=module --eval "$1"`
  const args = [...options, '--mount', '--propagation', 'private', 'sh', '-c', script, process.execPath, ENTER]
  const { stdout, stderr } = await execute('unshare', args)
  if (stdout === '') throw new Error(stderr)
  return JSON.parse(stdout) as [string[], string[]]
}

test('what is asked for is kept, and what is below if that is asked for, but nothing else', async () => {
  const [, after] = await enter('exec')
  const kept = mountPoints(readFileSync('/proc/self/mountinfo', 'utf8'), ['/proc'], ['/sys'])
  expect(kept.length).toBeGreaterThan(1)
  expect(after.toSorted()).toEqual(['/', ...kept].toSorted())
})

test.each([
  // Neither can one whose parent is shared: `/..` is what was mounted on the root.
  {
    what: 'an initramfs',
    prepare: 'mount --make-shared / && mount --rbind / / && cd / && exec chroot /..',
    options: [],
  },
  { what: 'that of a user namespace', prepare: 'exec', options: ['--user', '--map-root-user'] },
])('where the root cannot be left, as $what, all stays as it is', async ({ prepare, options }) => {
  const [before, after] = await enter(prepare, options)
  expect(after).toEqual(before)
})
