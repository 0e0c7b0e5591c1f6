import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isPinned } from '../../../src/caller/devices/nodev.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { fsconfigCreate, fsmount, fsopen } from '../../../src/kernel/mount.ts'
import { both } from '../../support/both-sides.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { BASE, execute, Host, mknodPolicy } from '../../support/host.ts'
import { Images, nodeFor } from '../../support/images.ts'
import { lacksFileSystem, withReason } from '../../support/skipped.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4')
const policy = {
  ...mknodPolicy,
  mount: { allowed: new Set(['ext4']), fuse: new Map(), shift: true, nodev: true },
}
const MKNOD = `${fixture('caller')} --umask 027 mknod`

let host: Host
let images: Images
beforeAll(async () => {
  images = new Images()
  host = await Host.start(policy)
})
afterAll(() => {
  host?.close()
  images?.[Symbol.dispose]()
})

describe.skipIf(cannot)(withReason('a node on an ext4 that the container mounted', cannot), () => {
  const nodes = `cd /mnt && ${MKNOD} n 020666 1 3 && mkdir sgid && chgrp 7 sgid && chmod 2775 sgid && ${MKNOD} sgid/z 020666 1 5`
  const list = `cd /mnt && stat -c '%n %F %t:%T %a %u:%g %h' n sgid sgid/z`

  test('is in the image: the host sees there what it would have made itself', async () => {
    const loops = { native: images.device('ext4'), contained: images.device('ext4') }
    const device = { native: loops.native, contained: nodeFor(loops.contained, host.directory, BASE) }
    const nodev = { native: '-o nodev', contained: '' }
    const { native, contained } = await both(
      host,
      (side) =>
        `mount -t ext4 ${nodev[side]} ${device[side]} /mnt && ${nodes} && opens n && opens sgid/z &&
         mv n m && ln m n && rm m && cd / && umount /mnt`,
    )
    expect(contained).toEqual(native)
    expect(contained).toMatchObject({
      status: 0,
      stdout: '{"ok":true}\n{"ok":true}\nPermission denied\nPermission denied\n',
    })
    const seen = (loop: string) => execute('unshare', ['--mount', 'sh', '-c', `mount ${loop} /mnt && ${list}`])
    const image = await seen(loops.contained)
    expect(image).toEqual(await seen(loops.native))
    expect(image.stdout.split('\n').slice(0, 3)).toEqual([
      'n character special file 1:3 640 0:0 1',
      'sgid directory 0:0 2775 0:7 2',
      'sgid/z character special file 1:5 640 0:7 1',
    ])
  })
})

/** What the container itself has made nodev stays so; natively root of the host would have made these mounts. */
describe.skipIf(cannot)(withReason('a node on a mount that the container made nodev', cannot), () => {
  test.each([
    { what: 'its tmpfs', mount: 'mount -t tmpfs -o nodev none /mnt' },
    {
      what: 'a copy of a mount of the host',
      mount: 'mkdir b && mount --bind b /mnt && mount -o remount,bind,nodev /mnt',
    },
    { what: 'its ramfs', mount: 'mount -t ramfs -o nodev none /mnt' },
  ])('$what: is made, does not open, and is moved, linked and removed as any other', async ({ mount }) => {
    const { native, contained } = await both(host, (side) => {
      const at = `${host.directory}/${side}`
      return `mkdir ${at} && cd ${at} && ${mount} && cd /mnt && ${MKNOD} n 020666 1 3 && opens n &&
        mv n m && ln m n && stat -c '%F %t:%T %a %u:%g %h' m && rm m n && cd / && umount /mnt && rm -r ${at}`
    })
    expect(contained).toEqual(native)
    expect(contained).toMatchObject({
      status: 0,
      stdout: '{"ok":true}\nPermission denied\ncharacter special file 1:3 640 0:0 2\n',
    })
  })
})

for (const type of ['tmpfs', 'ramfs', 'hugetlbfs']) {
  const unknown = lacksFileSystem(type)
  test.skipIf(unknown)(
    withReason(
      `nodes on ${type} stay in memory, so more than a few are made in the control groups of the caller`,
      unknown,
    ),
    () => {
      using context = fsopen(cstring(type))
      fsconfigCreate(context)
      using mounted = fsmount(context)
      expect(isPinned(mounted)).toBe(true)
    },
  )
}
