import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { Images, type ImageType, must } from '../../support/images.ts'
import { type Ended, INTERCEDE, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

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
const lacks = (type: string): string | undefined => (has(type) ? undefined : `this kernel has no ${type}`)
const noExt4 = lacks('ext4')

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
function mounting(device: string, script: string, keys: readonly string[] = [], more: readonly string[] = []): Ended {
  const options = ['mount=true', `mount.allowed=${TYPES.join(',')}`, ...keys].flatMap((key) => ['-c', key])
  return run(['--device', device, ...more, ...options, ...sh(`dev=${device}; ${script}`)])
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

describe.skipIf(cannot)(withReason('intercede run mounts', cannot), () => {
  test.skipIf(noExt4).each([
    { shift: 'false', ids: ['65534:65534', '65534:65534'], idmapped: '' },
    { shift: 'true', ids: ['0:0', '1000:1000'], idmapped: ',idmapped' },
  ])(withReason('every file system in every way, shift=$shift', noExt4), ({ shift, ids, idmapped }) => {
    for (const [type, device] of devices) {
      if (shift === 'true' && type === 'ext2') continue
      const { stdout, stderr } = mounting(device, inEveryWay(type), [`mount.shift=${shift}`])
      const info = expect.stringMatching(new RegExp(`^rw,nodev,relatime${idmapped} - ${type} ${device} `))
      const seen = ['hello', ...ids, info]
      expect(stdout.trim().split('\n'), `${type}: ${stderr}`).toEqual([...seen, ...seen, ...seen])
    }
  })

  test.skipIf(noExt4)(
    withReason('a mount that fails gives the device back soon after its program ended', noExt4),
    () => {
      const device = images.device('ext4')
      const once = 'mount -t ext4 $dev /nonexistent 2>/dev/null || { sleep 1; mkfs.ext4 -q -F $dev && echo free; }'
      const { stdout, stderr } = mounting(device, `for n in 1 2 3 4 5; do ${once}; done`)
      expect(stdout, stderr).toBe('free\n'.repeat(5))
    },
  )

  test.skipIf(lacks('ext2'))(
    withReason('a file system that the kernel cannot shift is not mounted, in any way', lacks('ext2')),
    () => {
      const { stdout, stderr } = mounting(devices.get('ext2')!, inEveryWay('ext2'), ['mount.shift=true'])
      expect(stdout).toBe('')
      expect(stderr).toContain('mount EINVAL 2 times: the file system cannot be shown with the ids of the container')
      expect(stderr).toContain('fsmount EINVAL: the file system cannot be shown')
    },
  )

  test.skipIf(noExt4)(withReason('nothing without --device, and say so, in every way', noExt4), () => {
    const without = (how: string): string =>
      run(['-c', 'mount', '-c', 'mount.allowed=ext4', ...sh(`${how} ${devices.get('ext4')} /mnt`)]).stderr
    for (const way of Object.values(WAYS)) {
      const why = 'the source of the mount does not exist for the caller; show the device to the container'
      expect(without(`${way} -t ext4`), way).toMatch(new RegExp(`ENOENT: ${why}, .* by --device`))
    }
    // It cannot look into the device, and tries ext3 first.
    const stderr = without('mount')
    expect(stderr).toMatch(/the file system "ext3" is not in .*mount\.allowed.* by --device/)
    expect(stderr).not.toContain('memory')
  })

  test.skipIf(noExt4)(withReason('options mean what they mean for root of the host, but for nodev', noExt4), () => {
    const options = [
      'defaults',
      'ro',
      'noexec',
      'nosuid',
      'noatime',
      'strictatime',
      'nodiratime',
      'nosymfollow',
      'sync,dirsync',
    ]
    const all = [...options, 'ro,nosuid,nodev,noexec,noatime', 'commit=7,errors=remount-ro', 'rw,lazytime,relatime']
    const script = (dev: string): string =>
      all
        .flatMap((option) =>
          Object.values(WAYS).map((mount) => `${mount} -t ext4 -o ${option} ${dev} /mnt; ${inInfo}; umount /mnt`),
        )
        .join('\n')
    const device = devices.get('ext4')!
    const native = spawnSync('unshare', ['--mount', 'sh', '-c', script(device)], { encoding: 'utf8' })
    const { stdout, stderr } = mounting(device, script('$dev'))
    const lines = (text: string): string[] =>
      text
        .trim()
        .split('\n')
        .map((line) => line.replace(',nodev', ''))
    expect(lines(native.stdout)).toHaveLength(3 * all.length)
    expect(lines(stdout), stderr).toEqual(lines(native.stdout))
    expect(stdout.match(/^r[wo],(nosuid,)?nodev/gm)).toHaveLength(3 * all.length)
  })

  test.skipIf(noExt4)(withReason('mount(8) uses the new mount API, to the end', noExt4), () => {
    const trace = 'strace -f -e trace=fsopen,fsconfig,fsmount,move_mount,mount,execve mount -t ext4 $dev /mnt 2>&1'
    const { stdout } = mounting(devices.get('ext4')!, `${trace}; cat /mnt/hello`)
    const calls = [...stdout.matchAll(/^(?:\[pid +\d+\] )?(\w+)\((.*)\) += (.*)$/gm)].map(([, name, args, result]) => {
      const command = /FSCONFIG_(\w+)/.exec(args!)?.[1] ?? ''
      return `${name} ${command} ${Number(result) >= 0 ? 'ok' : result}`
    })
    expect(calls).toEqual([
      'execve  ok',
      'fsopen  ok',
      'fsconfig SET_STRING ok',
      'fsconfig CMD_CREATE ok',
      'fsmount  ok',
      'move_mount  ok',
    ])
    expect(stdout).toContain('hello\n')
  })

  test.skipIf(noExt4)(
    withReason('a subdirectory, a second mount of the same device, and an image that the container made', noExt4),
    () => {
      const script = `mkdir -p /tmp/a/b /tmp/c && mount $dev /tmp/a/b && mount $dev /tmp/c && cat /tmp/a/b/hello && umount /tmp/a/b &&
      cat /tmp/c/hello && umount /tmp/c && mkfs.ext4 -qF -L made $dev && mount -L made /tmp/c 2>/dev/null || mount $dev /tmp/c
      ls /tmp/c; umount /tmp/c`
      expect(mounting(images.device('ext4'), script).stdout).toBe('hello\nhello\nlost+found\n')
    },
  )

  test.skipIf(noExt4)(
    withReason('the device rules of cgroup v2 hold for the source, whatever the node allows', noExt4),
    () => {
      const script =
        'mkdir /tmp/m; mount $dev /mnt && LIBMOUNT_FORCE_MOUNT2=always mount -r -t ext4 /mnt/disk /tmp/m; mount -r -t ext4 /mnt/disk /tmp/m'
      const { stderr } = mounting(devices.get('ext4')!, script, ['mount.nodev=false'])
      const why =
        "the device rules of the caller's control group forbid opening the source of the mount; allow the device"
      expect(stderr).toContain(`mount EPERM: ${why}`)
      expect(stderr).toContain(`fsconfig EPERM: ${why}`)
    },
  )

  test.skipIf(noExt4)(
    withReason('the device rules of cgroup v2 hold for a device that the host has mounted, too', noExt4),
    async () => {
      const victim = images.device('ext4')
      await images.mount(victim)
      const image = images.make('ext4')
      must('debugfs', ['-w', '-R', `mknod victim b 7 ${victim.replace(/\D/g, '')}`, image])
      const tries = Object.values(WAYS).map(
        (mount) => `${mount} -r -t ext4 /mnt/victim a; ${mount} -t ext4 /mnt/victim a`,
      )
      const script = `mkdir a; mount $dev /mnt && chmod 666 /mnt/victim && ls /mnt/victim; ${tries.join('; ')}; ls a`
      const { stdout, stderr } = mounting(images.attach(image), script, ['mount.nodev=false', 'mount.shift=true'])
      expect(stdout, stderr).toBe('/mnt/victim\n')
      expect(stderr).toContain('mount EPERM 4 times: the device rules')
      expect(stderr).toContain('fsconfig EPERM 2 times: the device rules')
    },
  )

  const noFuse = noExt4 ?? missing('squashfuse')
  test.skipIf(noFuse)(
    withReason('on a directory of a FUSE file system of the container, which we may not look at', noFuse),
    () => {
      const tries = Object.values(WAYS).map((mount) => `${mount} -t ext4 $dev f/d && cat f/d/hello && umount f/d`)
      const script = `mkdir -p e/d f; touch e/file; mksquashfs e image -quiet -no-progress >/dev/null
        squashfuse -o allow_other image f; ${tries.join('; ')}; busybox mount -t ext4 $dev f/file; umount f`
      const { stdout, stderr } = mounting(devices.get('ext4')!, script, [], ['--device', '/dev/fuse'])
      expect(stdout, stderr).toBe('hello\nhello\nhello\n')
      expect(stderr).toMatch(/on f\/file failed: Not a directory/)
    },
  )

  test.skipIf(noExt4)(
    withReason('an image that is only read stays as it is, byte by byte, also where it is shifted', noExt4),
    () => {
      const image = images.make('ext4')
      const device = images.attach(image)
      const before = readFileSync(image)
      const tries = Object.values(WAYS).map((mount) => `${mount} -r -t ext4 $dev /mnt && cat /mnt/hello; umount /mnt`)
      expect(mounting(device, tries.join('; '), ['mount.shift=true']).stdout).toBe('hello\nhello\nhello\n')
      expect(readFileSync(image).equals(before)).toBe(true)
    },
  )

  test.skipIf(noExt4)(withReason('tmpfs, bind and move stay the work of the kernel', noExt4), () => {
    const script = `mkdir /tmp/a /tmp/b; ${Object.values(WAYS)
      .map(
        (mount) =>
          `${mount} -t tmpfs none /tmp/a && ${mount} --bind /tmp/a /tmp/b && umount /tmp/b && ${mount} --move /tmp/a /tmp/b && umount /tmp/b && echo ok`,
      )
      .join('; ')}`
    const { stdout, stderr } = mounting(devices.get('ext4')!, `mount --make-rprivate /; ${script}`)
    expect(stdout, stderr).toBe('ok\nok\nok\n')
    expect(stderr).toBe('')
  })

  test.skipIf(noExt4).each([
    { shift: 'false', says: 'permission denied' },
    { shift: 'true', says: "ext4: Unknown parameter 'idmapped'" },
  ])(withReason('what can be changed of a mount that stands, shift=$shift', noExt4), ({ shift, says }) => {
    const remounts = ['remount,ro', 'remount,noatime', 'remount,bind,noatime', 'remount,bind,ro', 'remount,bind,rw']
    const script = remounts.map((options) => `mount -o ${options} /mnt 2>&1 | head -n 1; echo --`).join('; ')
    const { stdout } = mounting(devices.get('ext4')!, `mount -t ext4 $dev /mnt; ${script}`, [`mount.shift=${shift}`])
    const [superblock, ofBoth, times, ro, rw] = stdout.split('--\n')
    expect([superblock, ofBoth]).toEqual([expect.stringContaining(says), expect.stringContaining(says)])
    expect([times, ro, rw]).toEqual([expect.stringContaining('permission denied'), '', ''])
  })

  test.skipIf(noExt4)(withReason('the device rules hold for the journal that an ext4 names, too', noExt4), () => {
    const blank = (size: string): string => {
      const path = `${images.directory}/blank-${size}`
      must('truncate', ['-s', size, path])
      return images.attach(path)
    }
    const [device, journal] = [blank('32M'), blank('16M')]
    must('mke2fs', ['-q', '-b', '1024', '-O', 'journal_dev', journal])
    must('mkfs.ext4', ['-q', '-b', '1024', '-J', `device=${journal}`, device])
    const script = 'mount -t ext4 $dev /mnt && echo mounted'
    expect(mounting(device, script)).toMatchObject({ stdout: '', stderr: expect.stringContaining('fsconfig EPERM') })
    expect(mounting(device, script, [], ['--device', journal])).toMatchObject({ stdout: 'mounted\n' })
  })

  test.skipIf(noExt4)(
    withReason('what is made on a shifted mount has the ids of the container in the image', noExt4),
    () => {
      const image = images.make('ext4')
      const script = 'mount $dev /mnt && touch /mnt/a /mnt/b && chown 33:44 /mnt/b; umount /mnt'
      mounting(images.attach(image), script, ['mount.shift=true'])
      for (const [name, uid, gid] of [
        ['a', 0, 0],
        ['b', 33, 44],
      ] as const) {
        const seen = must('debugfs', ['-R', `stat /${name}`, image])
        expect(seen).toMatch(new RegExp(`User: +${uid} +Group: +${gid} `))
      }
    },
  )
})

describe.skipIf(cannot ?? missing('fuse2fs'))(withReason('the documents', cannot ?? missing('fuse2fs')), () => {
  const SURROUNDINGS = `sudo() { "$@"; }; intercede() { node "${INTERCEDE}" "$@" </dev/zero; }; trap 'losetup --detach $loop' EXIT`

  test.skipIf(noExt4).each(['mount.md', 'mount-fuse.md'])(
    withReason('the commands of docs/guide/%s work as they are', noExt4),
    (page) => {
      const text = readFileSync(new URL(`../../../docs/guide/${page}`, import.meta.url), 'utf8')
      const commands = /^```\n([\s\S]*?)^```$/m.exec(text)![1]!
      const cwd = mkdtempSync(join(tmpdir(), 'intercede-page-'))
      const { stdout, stderr } = spawnSync('sh', ['-c', `${SURROUNDINGS}\n${commands}`], { cwd, encoding: 'utf8' })
      rmSync(cwd, { recursive: true })
      expect(stdout, stderr).toMatch(/ root root .* lost\+found$/m)
    },
  )
})
