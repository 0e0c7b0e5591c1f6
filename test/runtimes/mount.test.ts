import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../fixtures.ts'
import { Images, type ImageType } from '../images.ts'
import { type Ended, run, sh, unable } from './run-machine.ts'

const TYPES = ['ext2', 'ext4', 'xfs', 'btrfs', 'squashfs', 'erofs'] as const satisfies readonly ImageType[]
const TOOLS = [
  'losetup',
  'mkfs.ext4',
  'mkfs.xfs',
  'mkfs.btrfs',
  'mksquashfs',
  'mkfs.erofs',
  'busybox',
  'strace',
] as const
const cannot = unable() ?? missing(...TOOLS)
const known = readFileSync('/proc/filesystems', 'latin1')
const has = (type: string): boolean => new RegExp(`^\\t${type}$`, 'm').test(known)

const WAYS = {
  'the new mount API of util-linux': 'mount',
  'mount(2) of util-linux': 'LIBMOUNT_FORCE_MOUNT2=always mount',
  'mount(2) of busybox': 'busybox mount',
} as const

let images: Images
const devices = new Map<ImageType, string>()

beforeAll(() => {
  if (cannot) return
  images = new Images()
  for (const type of TYPES.filter(has)) devices.set(type, images.device(type))
})
afterAll(() => images?.[Symbol.dispose]())

/** Runs a script in a container that has the device as $dev and may mount all types. */
function mounting(device: string, script: string, keys: readonly string[] = []): Ended {
  const options = ['mount=true', `mount.allowed=${TYPES.join(',')}`, ...keys].flatMap((key) => ['-c', key])
  return run(['--device', device, ...options, ...sh(`dev=${device}; ${script}`)])
}

const inInfo = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6-"

/** Mounts in every way, and tells for each what is seen; then that nothing is left. */
const inEveryWay = (type: ImageType): string =>
  Object.values(WAYS)
    .map(
      (mount) =>
        `${mount} -t ${type} $dev /mnt && cat /mnt/hello && stat -c %u:%g /mnt /mnt/theirs && ${inInfo}; umount /mnt; ${inInfo}`,
    )
    .join('; ')

describe.skipIf(cannot)('intercede run mounts', () => {
  test.skipIf(!has('ext4')).each([
    { shift: 'false', ids: ['65534:65534', '65534:65534'], idmapped: '' },
    { shift: 'true', ids: ['0:0', '1000:1000'], idmapped: ',idmapped' },
  ])('every file system in every way, shift=$shift', ({ shift, ids, idmapped }) => {
    for (const [type, device] of devices) {
      if (shift === 'true' && type === 'ext2') continue
      const { stdout, stderr } = mounting(device, inEveryWay(type), [`mount.shift=${shift}`])
      const info = expect.stringMatching(new RegExp(`^rw,nodev,relatime${idmapped} - ${type} ${device} `))
      const seen = ['hello', ...ids, info]
      expect(stdout.trim().split('\n'), `${type}: ${stderr}`).toEqual([...seen, ...seen, ...seen])
    }
  })

  test.skipIf(!has('ext2'))('a file system that the kernel cannot shift is not mounted, in any way', () => {
    const { stdout, stderr } = mounting(devices.get('ext2')!, inEveryWay('ext2'), ['mount.shift=true'])
    expect(stdout).toBe('')
    expect(stderr).toContain('mount EINVAL 2 times: the file system cannot be shown with the ids of the container')
    expect(stderr).toContain('fsmount EINVAL: the file system cannot be shown')
  })
})
