import { statSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { Images } from '../../support/images.ts'
import { type Ended, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const cannot = unable() ?? missing('losetup', 'mkfs.ext4', 'fuse2fs')
let images: Images
/** A loop device that the container has, and one that it has not. */
let [own, other] = ['', '']

beforeAll(() => {
  if (cannot) return
  images = new Images()
  own = images.device('ext4')
  other = images.device('ext4')
})
afterAll(() => images?.[Symbol.dispose]())

const numberOf = (path: string): string => `7 ${statSync(path).rdev & 0xff}`
const KEYS = ['mknod', 'mount', 'mount.fuse=ext4=fuse2fs']

/** Runs a script in a container that has one of the devices, by its node in /dev. */
const within = (script: string, ...keys: readonly string[]): Ended =>
  run(['--device', own, '--device', '/dev/fuse', ...[...KEYS, ...keys].flatMap((key) => ['-c', key]), ...sh(script)])

test.skipIf(cannot)(
  withReason('a container makes a node of a device that it has, a file system on it, and mounts that', cannot),
  () => {
    const script = `mknod /root/disk b ${numberOf(own)} && stat -c '%F %u %a' /root/disk &&
      mkfs.ext4 -q -F /root/disk && mount -t ext4 /root/disk /mnt && echo kept >/mnt/file && cat /mnt/file &&
      umount /mnt && rm /root/disk && echo removed`
    expect(within(script, 'mknod.devices=granted')).toMatchObject({
      ...{ status: 0, stdout: 'block special file 0 644\nkept\nremoved\n' },
    })
    const without = within(script)
    expect(without).toMatchObject({ status: 1, stdout: '' })
    expect(without.stderr).toMatch(/mknod.*: only character devices are made: .*; if the container has the device/)
  },
)

test.skipIf(cannot)(withReason('it makes none of a device that it has not', cannot), () => {
  const { status, stdout, stderr } = within(`mknod /root/disk b ${numberOf(other)}`, 'mknod.devices=granted')
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/the device rules of the caller's control group do not allow to read and write the device 7:/)
})
