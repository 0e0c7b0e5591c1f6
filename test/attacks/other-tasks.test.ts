/**
 * The links of a task that has joined the container's user and pid namespaces but still has the host's root directory, as a
 * runtime's init has until it pivots: the kernel refuses them (linux/kernel/ptrace.c __ptrace_may_access(): it is not dumpable,
 * and its `mm->user_ns` is the host's).
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'

import { fixture, missing } from '../support/fixtures.ts'
import { attributesBelow, BASE, Host, mknodPolicy, until } from '../support/host.ts'
import { Images } from '../support/images.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4')
const policy = {
  ...mknodPolicy,
  setxattr: { allowed: new Set<string>(), read: false },
  mount: { allowed: new Set(['ext4']), fuse: new Map(), shift: false, nodev: true },
}

let host: Host
let images: Images
let serial = 0

beforeAll(async () => {
  if (cannot) return
  host = await Host.start(policy)
  images = new Images()
})
afterAll(() => {
  images?.[Symbol.dispose]()
  host?.close()
})

interface Places {
  readonly place: string
  /** On the host everybody may write to it; in the container something else is mounted on it. */
  readonly closed: string
}

function places(): Places {
  const place = join(host.directory, `place${serial++}`)
  const closed = join(place, 'closed')
  for (const path of [place, closed, join(place, 'proc'), join(place, 'on'), join(closed, 'theirs')]) {
    mkdirSync(path)
    chownSync(path, BASE, BASE)
    chmodSync(path, 0o777)
  }
  const device = images.device('ext4')
  execFileSync('mknod', ['-m', '666', join(closed, 'disk'), 'b', '7', device.replace(/\D/g, '')])
  return { place, closed }
}

interface Joined {
  readonly where: Places
  /** What it executes. */
  readonly command?: readonly string[]
  /** Of the fixture `filtered`. */
  readonly options?: readonly string[]
}

/** Runs `script` in a container; before it a task has joined that, whose number is $other there and $host in ours. */
async function besideJoined({ where, command = [], options = ['--pidns'] }: Joined, script: string): Promise<string> {
  const { place, closed } = where
  const setting = [
    `place=${place} closed=${closed} caller=${fixture('caller')}; cd $place || exit`,
    'mount -t proc none proc; mount -t tmpfs none closed || exit',
    'read own rest </proc/self/stat; echo $own >new; mv new init',
    'until [ -e joined ]; do sleep 0.02; done; read other host <joined',
    script,
  ].join('\n')
  const run = host.run([...options, '--xattr', '--mounts'], ['unshare', '--mount', 'sh', '-c', setting])
  await until('the container runs', () => existsSync(join(place, 'init')))
  const init = readFileSync(join(place, 'init'), 'utf8').trim()
  const joined = spawn(fixture('joined'), [init, closed, ...command], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    writeFileSync(join(place, 'new'), `${await firstLine(joined)}\n`)
    renameSync(join(place, 'new'), join(place, 'joined'))
    return (await run).stdout
  } finally {
    joined.stdin!.end()
  }
}

const firstLine = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    createInterface(child.stdout!).once('line', resolve)
    child.once('exit', (status) => reject(new Error(`It has not joined: ${status}`)))
  })

const PROCFS = [
  { whose: "the container's procfs", task: 'proc/$other', number: '$other', options: ['--pidns'] },
  { whose: "the host's procfs", task: '/proc/$host', number: '$host', options: ['--pidns'] },
  { whose: "the host's procfs, without a pid namespace", task: '/proc/$host', number: '$host', options: [] },
]
const linksOf = (number: string): readonly string[] =>
  ['root$closed', 'cwd', 'fd/9'].flatMap((link) => [link, `task/${number}/${link}`])

test.skipIf(cannot).each(PROCFS)(
  withReason('links of an undumpable task are not followed in $whose', cannot),
  async ({ task, number, options }) => {
    const where = places()
    const links = linksOf(number)
    const calls = links.flatMap((link) => [
      // What the kernel says to the container by itself.
      `stat -L ${task}/${link} >/dev/zero 2>&1 && echo "native: followed"`,
      `$caller mknod ${task}/${link}/null 020666 1 3`,
      `$caller mknodat ${task} ${link}/null 020666 1 3`,
      `$caller --cd ${task} mknod ${link}/null 020666 1 3`,
      `$caller setxattr ${task}/${link}/theirs`,
      `$caller mount $place/on ${task}/${link}/disk ext4`,
      `$caller mount ${task}/${link} ${task}/${link}/disk ext4`,
    ])
    const said = (await besideJoined({ where, options }, `${calls.join('\n')}\nls on`)).trimEnd().split('\n')
    const followed = said.filter((line) => !/^\{"errno":"(EACCES|EPERM)"\}$/.test(line))
    expect({ followed, calls: said.length }).toEqual({ followed: [], calls: links.length * 6 })
    expect(readdirSync(where.closed).sort()).toEqual(['disk', 'theirs'])
    expect(await attributesBelow(where.closed)).toBe(0)
  },
)

/** The test above can fail: to this one the kernel lets the container by itself. */
test.skipIf(cannot).each(PROCFS.slice(0, 2))(
  withReason('links of a task are followed once it has executed a program, in $whose', cannot),
  async ({ task, number }) => {
    const where = places()
    const links = linksOf(number)
    const calls = links.flatMap((link, index) => [
      `stat -L ${task}/${link} >/dev/zero 2>&1 && echo "native: followed"`,
      `$caller mknod ${task}/${link}/null${index} 020666 1 3`,
      `$caller setxattr ${task}/${link}/theirs`,
    ])
    const said = (await besideJoined({ where, command: ['sleep', '60'] }, `${calls.join('\n')}`)).trimEnd().split('\n')
    expect(said.filter((line) => line !== 'native: followed' && !line.startsWith('{"ok":true'))).toEqual([])
    expect(said).toHaveLength(links.length * 3)
    expect(readdirSync(where.closed).filter((name) => name.startsWith('null'))).toHaveLength(links.length)
    expect(await attributesBelow(where.closed)).toBe(1)
  },
)
