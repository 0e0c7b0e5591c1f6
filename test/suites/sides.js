// Runs the script of a suite as root of the host, in a container without keys, and in the same one with all keys.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const INTERCEDE = new URL('../../bin/intercede.js', import.meta.url).pathname
const KEYS = [
  ...['mknod', 'mknod.devices=c:5:2,c:10:200,c:10:229', 'bpf', 'bpf.devices', 'mount'],
  ...['mount.allowed=ext2,ext3,ext4,xfs,btrfs,squashfs,erofs,tmpfs,hugetlbfs', 'mount.shift', 'sched_setscheduler'],
  ...['sched_setscheduler.max_priority=99', 'setxattr', 'setxattr.read', 'sysinfo'],
]
/** What tests of mount(8) take; the container of a test only. */
const LOOPS = ['/dev/loop-control', ...Array.from({ length: 32 }, (_, number) => `/dev/loop${number}`)]

export const SIDES = ['native', 'without', 'ours']
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
  ...LOOPS.filter((device) => existsSync(device)).flatMap((device) => ['--device', device]),
  ...(side === 'ours' ? KEYS : []).flatMap((key) => ['-c', key]),
]

/** Loop devices that a test has left behind. */
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
  const [program, args] = commandOf(side, directory, [
    'sh',
    '-c',
    `cd ${directory} && umask 022 && { ${script}\n} 2>&1`,
  ])
  const { stdout, stderr, error } = spawnSync('timeout', ['-k', '10', String(SECONDS), program, ...args], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  freeLoops(directory)
  if (error) throw error
  return stdout + stderr
}
