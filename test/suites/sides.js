// Runs the script of a suite as root of the host, in a container without keys, and in the same one with all keys, or all
// but mount.shift, which cannot shift the ids of an ext2.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const INTERCEDE = fileURLToPath(new URL('../../bin/intercede.js', import.meta.url))
const KEYS = [
  ...['mknod', 'mknod.devices=c:5:2,c:10:200,c:10:229', 'bpf', 'bpf.devices', 'mount'],
  ...['mount.allowed=ext2,ext3,ext4,xfs,btrfs,squashfs,erofs,tmpfs,hugetlbfs', 'mount.shift', 'sched_setscheduler'],
  ...['sched_setscheduler.max_priority=99', 'setxattr', 'setxattr.read', 'sysinfo'],
]
/** What tests of mount(8) take; the container of a test only. */
const LOOPS = Array.from({ length: 32 }, (_, number) => `/dev/loop${number}`)

const LOOP_CTL_ADD = 0x4c80
const LOOP_CTL_REMOVE = 0x4c81
const control = (command, device) =>
  spawnSync('perl', [
    '-e',
    `open(my $control, "+<", "/dev/loop-control"); ioctl($control, ${command}, ${device.replace(/\D/g, '')})`,
  ])

/** Makes the loop devices that are missing: a container gets no node of what is made later, and tests take them away. */
function makeLoops() {
  for (const device of LOOPS.filter((one) => !existsSync(one))) control(LOOP_CTL_ADD, device)
}

/** Runs what needs loop devices; after it there are those that there were before. */
export function withLoops(action) {
  const before = LOOPS.filter((device) => existsSync(device))
  try {
    action()
  } finally {
    makeLoops()
    for (const device of LOOPS.filter((one) => !before.includes(one))) control(LOOP_CTL_REMOVE, device)
  }
}

/** The sides of the comparison, by what the keys of the container are. */
const SIDES_KEYS = {
  native: [],
  without: [],
  ours: KEYS,
  unshifted: KEYS.filter((key) => key !== 'mount.shift'),
}
export const SIDES = Object.keys(SIDES_KEYS)
const SECONDS = 900

const commandOf = (side, directory, command) =>
  side === 'native'
    ? ['unshare', ['--mount', '--propagation', 'private', ...command]]
    : [
        process.execPath,
        [INTERCEDE, 'run', '--quiet', '--memory', '4g', ...optionsOf(side, directory), '--', ...command],
      ]

const optionsOf = (side, directory) => [
  ...['--bind', `${directory}:idmap`],
  ...['/dev/loop-control', ...LOOPS].flatMap((device) => ['--device', device]),
  ...SIDES_KEYS[side].flatMap((key) => ['-c', key]),
]

/** The tools ask sysfs which loop device has which file; `run` hides that part of it, and its root may look. */
const SEES_DISKS = 'umount /sys/dev/block 2>/dev/null'

/** Frees loop devices that a test has left behind. */
function freeLoops(directory) {
  const text = execFileSync('losetup', ['--noheadings', '--output', 'NAME,BACK-FILE'], { encoding: 'utf8' })
  for (const line of text
    .trim()
    .split('\n')
    .filter((one) => one.includes(directory)))
    spawnSync('losetup', ['--detach', line.split(' ')[0]])
}

/** @returns all that the suite said on this side */
export function output(side, directory, script) {
  makeLoops()
  const before = side === 'native' ? ':' : SEES_DISKS
  const words = ['sh', '-c', `${before}; cd ${directory} && umask 022 && { ${script}\n} 2>&1`]
  const [program, args] = commandOf(side, directory, words)
  const { stdout, stderr, error } = spawnSync('timeout', ['-k', '10', String(SECONDS), program, ...args], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  freeLoops(directory)
  if (error) throw error
  return stdout + stderr
}
