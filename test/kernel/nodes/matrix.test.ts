import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { both, type Side } from '../../support/both-sides.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { BASE, execute, Host, mknodPolicy } from '../../support/host.ts'
import { cannotShift, Images, type ImageType, must, nodeFor } from '../../support/images.ts'
import { lacks, lacksFileSystem, withReason } from '../../support/skipped.ts'

/** The file systems, who mounted them, with nodev or not, and what is done with a node there: native beside ours. */

const cannot = missing('gcc', 'losetup', 'mkfs.ext4', 'mkfs.xfs', 'mkfs.btrfs', 'mksquashfs', 'mkfs.erofs')
const MKNOD = `${fixture('caller')} --umask 022 mknod`

/** Says for each operation in the working directory how it ended, in a line. $AT is what is unmounted, if it is set. */
const OPERATIONS = `
  says() { if said=$("$@" 2>&1); then echo "$1: ok"; else echo "$1: $(echo "$said" | sed 's,.*: ,,')"; fi; }
  echo "mknod: $(${MKNOD} n 020666 1 3) $(${MKNOD} r 020666 1 5)"
  echo "stat: $(stat -c '%F %t:%T %a %u:%g' n 2>&1)"; echo "open: $(opens n)"
  echo "tar: $(tar -c n 2>/dev/null | tar -t --numeric-owner -v 2>/dev/null | cut -d' ' -f1,2)"
  says ln n l && rm -f l; says mv n m && ! [ -e m ] || mv m n; says rm r
  cd /; [ -z "$AT" ] || says umount $AT`

/** The file systems that are served from images, and of these the ones that nobody writes to. */
const DISKS = ['ext4', 'xfs', 'btrfs', 'squashfs', 'erofs'] as const satisfies readonly ImageType[]

interface Differences {
  readonly [operation: string]: readonly [native: string, ours: string]
}
const BUSY = 'Device or resource busy'
/** One of ours is mounted on the node. */
const COVERED: Differences = {
  ln: ['ok', 'Invalid cross-device link'],
  mv: ['ok', BUSY],
  rm: ['ok', BUSY],
}
/** And on a mount that can be unmounted. */
const COVERED_INSIDE: Differences = { ...COVERED, umount: ['ok', 'target is busy.'] }
/** Natively the mount's nodev keeps the node closed. */
const OPENS: Differences = { open: ['Permission denied', 'opens'] }
const NONE: Differences = {
  mknod: ['{"ok":true} {"ok":true}', '{"errno":"EPERM"} {"errno":"EPERM"}'],
}

interface Case {
  readonly what: string
  /** Mounts in the side's own mount namespace, and enters it. */
  readonly script: (side: Side) => string
  /** A file system that is mounted with shifted ids. */
  readonly shifted?: ImageType
  readonly differ?: Differences
  readonly why?: string
  /** Operations that say nothing where none was made. */
  readonly notMade?: true
}

/** Both sides use a mount of the runtime, one after the other. */
const FRESH = 'fresh=$(mktemp -d fresh-XXXXXX) && cd $fresh'

let images: Images
const hosts: { [name: string]: Host } = {}
let theirs: string
const mounted: string[] = []

/** A mount that is there before the container is handed over, as the mounts of a runtime are. */
const ofRuntime = (name: string): string => `cd ${join(theirs, name)} && ${FRESH}`

beforeAll(async () => {
  if (cannot) return
  images = new Images()
  const mount = { fuse: new Map(), shift: true, nodev: true }
  hosts.usual = await Host.start({ ...mknodPolicy, mount: { ...mount, allowed: new Set(['hugetlbfs', ...DISKS]) } })
  hosts.open = await Host.start({
    ...mknodPolicy,
    mount: { ...mount, allowed: new Set(['ext4', 'tmpfs']), nodev: false },
  })
  theirs = join(images.directory, 'runtime')
  mkdirSync(theirs)
  must('mount', ['-t', 'tmpfs', 'runtime', theirs])
  mounted.push(theirs)
  must('chmod', ['755', theirs, images.directory])
  for (const [name, options] of [
    ['plain', ''],
    ['nodev', 'nodev,'],
  ] as const) {
    for (const type of ['tmpfs', 'overlay']) {
      const at = join(theirs, `${type}-${name}`)
      for (const each of [at, `${at}.u`, `${at}.w`]) mkdirSync(each)
      must('chown', [`${BASE}:${BASE}`, at, `${at}.u`])
      const layers = `lowerdir=${at},upperdir=${at}.u,workdir=${at}.w`
      must('mount', ['-t', type, '-o', `${options}${type === 'tmpfs' ? `uid=${BASE},gid=${BASE}` : layers}`, 'x', at])
      mounted.push(at)
    }
  }
})
afterAll(async () => {
  for (const host of Object.values(hosts)) host.close()
  for (const at of mounted.reverse()) await execute('umount', [at])
  images?.[Symbol.dispose]()
})

const loop = (host: Host, side: Side, type: ImageType = 'ext4'): string => {
  const device = images.device(type)
  return side === 'native' ? device : nodeFor(device, host.directory, BASE)
}
const inMnt = (mount: string): string => `AT=/mnt; ${mount} /mnt && cd /mnt`
const overlay = (options: string): string =>
  `mount -t tmpfs x /mnt && cd /mnt && mkdir l u w o && AT=/mnt/o && mount -t overlay -o ${options}lowerdir=l,upperdir=u,workdir=w,userxattr x o && cd o`

const cases: readonly Case[] = [
  ...DISKS.map(
    (type): Case => ({
      what: `${type} that we mounted`,
      shifted: type,
      script: (side) =>
        inMnt(`mount -t ${type} ${side === 'native' ? '-o nodev' : ''} ${loop(hosts.usual!, side, type)}`),
    }),
  ),
  {
    what: 'hugetlbfs that we mounted',
    script: (side) => inMnt(`mount -t hugetlbfs ${side === 'native' ? '-o nodev' : ''} x`),
  },
  { what: 'a tmpfs of the container with nodev', script: () => inMnt('mount -t tmpfs -o nodev x') },
  {
    what: 'a tmpfs of the container',
    script: () => inMnt('mount -t tmpfs x'),
    differ: COVERED_INSIDE,
    why: 'no device opens there (SB_I_NODEV), so one of ours is mounted on the node',
  },
  { what: 'a ramfs of the container with nodev', script: () => inMnt('mount -t ramfs -o nodev x') },
  {
    what: 'a ramfs of the container',
    script: () => inMnt('mount -t ramfs x'),
    differ: COVERED_INSIDE,
    why: 'as on tmpfs',
  },
  {
    what: 'an overlay of the container',
    script: () => overlay(''),
    differ: NONE,
    notMade: true,
    why: 'an overlay makes nodes with the rights of its mounter',
  },
  { what: 'a tmpfs of the runtime', script: () => ofRuntime('tmpfs-plain') },
  {
    what: 'a tmpfs of the runtime with nodev',
    script: () => ofRuntime('tmpfs-nodev'),
    differ: { ...OPENS, ...COVERED },
    why: 'it was the runtime that took away what a container has natively',
  },
  { what: 'an overlay of the runtime', script: () => ofRuntime('overlay-plain') },
  {
    what: 'an overlay of the runtime with nodev',
    script: () => ofRuntime('overlay-nodev'),
    differ: { ...OPENS, ...COVERED },
    why: "as podman's root",
  },
  {
    what: "a copy of the runtime's with nodev in another mount namespace",
    script: () => `AT=/mnt; mount --bind ${join(theirs, 'overlay-nodev')} /mnt && cd /mnt && ${FRESH}`,
    differ: { ...OPENS, ...COVERED_INSIDE },
    why: 'it is the same file system',
  },
  {
    what: "a copy of the runtime's that the container makes nodev",
    script: () =>
      `AT=/mnt; mount --bind ${join(theirs, 'tmpfs-plain')} /mnt && mount -o remount,bind,nodev /mnt && cd /mnt && ${FRESH}`,
  },
]
const OPEN_CASES: readonly Case[] = [
  {
    what: 'an ext4 that we mounted with mount.nodev=false',
    script: (side) => inMnt(`mount -t ext4 ${loop(hosts.open!, side)}`),
  },
  { what: 'a tmpfs that is served', script: () => inMnt('mount -t tmpfs x') },
  {
    what: 'an overlay of the container on a tmpfs that is served',
    script: () => overlay(''),
    differ: NONE,
    notMade: true,
    why: 'the overlay is still mounted by the container: it makes nodes with the rights of its mounter',
  },
  { what: 'a tmpfs that is served, with nodev', script: () => inMnt('mount -t tmpfs -o nodev x') },
]

const linesOf = (text: string): ReadonlyMap<string, string> =>
  new Map(
    text
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
  )

async function check(host: Host, { script, differ = {}, notMade }: Case): Promise<void> {
  const { native, contained } = await both(host, (side) => `${script(side)} && { ${OPERATIONS}; }`)
  const [theirsToo, ours] = [linesOf(native.stdout), linesOf(contained.stdout)]
  expect(native.stderr).toBe('')
  expect([...theirsToo.keys()], contained.stderr).toEqual([...ours.keys()])
  const found = [...ours].flatMap(([operation, said]) => {
    const natively = theirsToo.get(operation)!
    return natively === said ? [] : [[operation, [natively, said] as const] as const]
  })
  const counted = notMade ? found.filter(([operation]) => operation === 'mknod') : found
  expect(Object.fromEntries(counted)).toEqual(differ)
}

describe.skipIf(cannot)(withReason('nodes on a mount: what differs from root of the host', cannot), () => {
  const notCopied = lacks('copyDetached')
  test.for(cases)('$what', (each, { skip }) => {
    if (notCopied && each.differ?.ln) skip(notCopied)
    const unknown = each.what.startsWith('hugetlbfs') ? lacksFileSystem('hugetlbfs') : undefined
    if (unknown) skip(unknown)
    const notShifted = each.shifted && cannotShift(each.shifted, images.device(each.shifted))
    if (notShifted) skip(notShifted)
    return check(hosts.usual!, each)
  })
  test.each(OPEN_CASES)('$what', (each) => check(hosts.open!, each))
})
