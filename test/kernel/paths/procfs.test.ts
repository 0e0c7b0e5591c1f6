import { existsSync, lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { BASE, type Done, directory, Host, until } from '../../support/host.ts'
import { descriptorsOf } from '../../support/hostile.ts'
import { lacks } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'

let host: Host
let dir: string
let serial = 0

beforeAll(async () => {
  host = await Host.start()
  dir = directory(join(host.directory, 'work'), BASE, 0o755)
})
afterAll(() => host.close())

/** A name that nothing on the host has. */
const newName = (): string => `intercede-test-${process.pid}-${serial++}`

/** The fixture's container sees the host's procfs: there `self` of an engine thread is the engine. */
describe('links of procfs lead where they lead for the caller', () => {
  test.each([
    { link: '/proc/self/cwd', at: '', result: 'ok' },
    { link: '/proc/thread-self/cwd', at: '', result: 'ok' },
    { link: '/proc/self/cwd/in', at: 'in', result: 'ok' },
    { link: '/dev/fd/9', at: 'in', result: 'ok' },
    { link: '/proc/self/fd/9', at: 'in', result: 'ok' },
    { link: '/proc/thread-self/fd/9/..', at: '', result: 'ok' },
    // A way back within one's own directory is not followed: left to the kernel.
    { link: '/proc/self/task/../cwd', at: undefined, result: 'EPERM' },
    { link: '/proc/$$/cwd', at: '', result: 'ok' },
    { link: '/proc/$$/task/$$/cwd/in', at: 'in', result: 'ok' },
    { link: '/proc/self/root', at: undefined, result: 'EACCES' },
    { link: '/proc/thread-self/root/tmp/nowhere', at: undefined, result: 'ENOENT' },
    { link: '/proc/self/fd/8', at: undefined, result: 'ENOENT' },
    { link: '/proc/self/cwd/../../../../../proc/self/root', at: undefined, result: 'EACCES' },
    { link: '/proc/self', at: undefined, result: 'ENOENT' },
    { link: `/proc/self/cwd${'/in/..'.repeat(450)}`, at: '', result: 'ok' },
    // More than 1,000 components.
    { link: `/proc/self/cwd${'/in/..'.repeat(520)}`, at: undefined, result: 'EPERM' },
    { link: '/proc/1/root', at: undefined, result: 'EACCES' },
    { link: '/proc/1/cwd', at: undefined, result: 'EACCES' },
  ])('$link: $result', async ({ link, at, result }) => {
    const place = directory(join(dir, `proc${serial++}`), BASE, 0o755)
    directory(join(place, 'in'), BASE, 0o755)
    const name = newName()
    const script = `cd ${place} && exec 9<in && exec ${fixture('caller')} mknod ${link}/${name} 020666 1 3`
    const before = host.records.length
    const { stdout } = await host.run([], ['sh', '-c', script])
    const said = JSON.parse(stdout) as { ok?: true; errno?: string }
    expect(said.ok ? 'ok' : said.errno).toBe(result)
    if (at !== undefined) expect(lstatSync(join(place, at, name)).isCharacterDevice()).toBe(true)
    for (const elsewhere of ['/', '/tmp', host.directory, process.cwd(), dir]) {
      expect(existsSync(join(elsewhere, name))).toBe(false)
    }
    await host.settle(before)
  })
})

interface Places {
  readonly place: string
  readonly proc: string
}

const places = (): Places => {
  const place = directory(join(dir, `own${serial++}`), BASE, 0o755)
  directory(join(place, 'in'), BASE, 0o755)
  return { place, proc: directory(join(place, 'proc'), BASE, 0o755) }
}

/** In a pid namespace, with a procfs of it besides the host's; another process stands in "in": it has the number $other there, $host here. */
function inside(script: string, { place, proc }: Places): Promise<Done> {
  const setting = [
    `proc=${proc} place=${place} caller=${fixture('caller')} engine=${host.enginePid}`,
    'mount -t proc none $proc && cd $place/in || exit',
    // The first field of its stat in the host's procfs is its number there.
    'mkfifo number',
    `{ exec 9<.; read host rest </proc/self/stat; echo $host >number; exec sleep ${60 * SLOWNESS} >/dev/zero 2>&1; } & other=$!`,
    'read host <number',
    `cd $place`,
    script,
    'kill $other',
  ].join('\n')
  return host.run(['--pidns'], ['unshare', '--mount', 'sh', '-c', setting])
}

const NODE = '020666 1 3'

describe.each([
  { where: "the host's procfs", procfs: '/proc', number: '$host' },
  { where: "the container's", procfs: '$proc', number: '$other' },
])('links in $where', ({ procfs, number }) => {
  test.for<{ what: string; call: string; caller?: string; at?: string; errno?: string }>([
    { what: 'from a descriptor of the own directory', call: 'mknodat $p/self cwd/{}', at: '' },
    { what: 'from one of the own thread', call: 'mknodat $p/thread-self cwd/in/{}', at: 'in' },
    { what: 'from one of the own descriptors', call: 'mknodat $p/self/fd 9/{}', at: 'in' },
    { what: 'from one of all own threads', call: 'mknodat $p/self/task ../../none/{}', errno: 'ENOENT' },
    { what: 'from the working directory', call: '--cd $p/self mknod root/$place/{}', at: '' },
    { what: 'from a deeper one', call: '--cd $p/thread-self/fd mknod 9/{}', at: 'in' },
    { what: 'from the one of another thread', call: '--thread --cd $p/self mknod root/$place/{}', at: '' },
    { what: 'of another process', call: 'mknod $p/$number/cwd/{}', at: 'in' },
    { what: 'of its thread', call: 'mknod $p/$number/task/$number/cwd/{}', at: 'in' },
    {
      what: 'of another process, for who may not look at it',
      call: 'mknod $p/$number/cwd/{}',
      caller: 'setpriv --bounding-set=-sys_ptrace $caller',
      errno: 'EACCES',
    },
    { what: 'from a directory of nobody', call: 'mknodat $p/sys kernel/../none/{}', errno: 'ENOENT' },
  ])('$what', async ({ call, caller = '$caller', at, errno }, { skip }) => {
    const why = procfs === '$proc' && call.includes('$number') && !errno ? lacks('pidTranslation') : undefined
    if (why) skip(why)
    const where = places()
    const name = newName()
    const script = `exec 9<in; p=${procfs}; number=${number}; ${caller} ${call.replace('{}', name)} ${NODE}`
    const { stdout } = await inside(script, where)
    expect(JSON.parse(stdout)).toEqual(errno ? { errno } : { ok: true })
    if (at !== undefined) expect(lstatSync(join(where.place, at, name)).isCharacterDevice()).toBe(true)
  })
})

/** Who may mount in the container's mount namespace may do so on the entries of a task: natively a path leads where that leads. */
describe.each([
  { where: "the host's procfs", procfs: '/proc', number: '$host' },
  { where: "the container's", procfs: '$proc', number: '$other' },
])('what is mounted on an entry of $where', ({ procfs, number }) => {
  const link = (name: string, covered: string): string => `${fixture('link-swapper')} $p/$number/${name} $p/${covered}`
  test.each([
    { on: 'self', mount: 'mount --bind $p/$number $p/$me', path: 'self/cwd' },
    // There the other process has no thread of this number.
    { on: 'self', mount: 'mount --bind $p/$number $p/$me', path: 'thread-self/cwd', errno: 'ENOENT' },
    { on: 'self', mount: 'mount --bind $p/$number $p/$me', path: 'self/fd/9' },
    { on: 'self', mount: 'mount --bind $p/$number $p/$me', path: '$me/cwd' },
    { on: 'fd', mount: 'mount --bind $p/$number/fd $p/$me/fd', path: 'self/fd/9' },
    { on: 'task', mount: 'mount --bind $p/$number/task $p/$me/task', path: 'self/task/$number/cwd' },
    { on: 'a thread', mount: 'mount --bind $p/$number $p/$me/task/$me', path: 'thread-self/cwd' },
    { on: 'a thread', mount: 'mount --bind $p/$number $p/$me/task/$me', path: 'self/task/$me/cwd' },
    { on: 'cwd', mount: link('cwd', '$me/cwd'), path: 'self/cwd' },
    { on: 'cwd of a thread', mount: link('cwd', '$me/task/$me/cwd'), path: 'thread-self/cwd' },
    { on: 'root', mount: link('cwd', '$me/root'), path: 'self/root' },
    { on: 'the link self', mount: link('cwd', 'self'), path: 'self' },
  ])('$on, by $path: is left to the kernel', async ({ mount, path, errno = 'EPERM' }) => {
    const where = places()
    const name = newName()
    // The redirection shows where the kernel goes; it is the shell's own, which becomes the caller.
    const script = `p=${procfs} number=${number}; exec 9<.
      ( read me rest <$p/self/stat; ${mount} || exit
        ${errno === 'EPERM' ? `: >$p/${path}/native;` : ''} exec $caller mknod $p/${path}/${name} ${NODE} )`
    const { stdout, stderr } = await inside(script, where)
    expect({ stdout, stderr }).toEqual({ stdout: `{"errno":"${errno}"}\n`, stderr: '' })
    expect(existsSync(join(where.place, 'in', 'native'))).toBe(errno === 'EPERM')
    expect([join(where.place, name), join(where.place, 'in', name)].filter(existsSync)).toEqual([])
  })
})

describe("the container's procfs, seen from a pid namespace in it", () => {
  test.each([
    { path: 'self/cwd', at: '' },
    { path: 'thread-self/cwd', at: '' },
    { path: '$me/cwd', at: '' },
    { path: 'self/task/$me/cwd', errno: 'EPERM' },
    // It has the number 1 there, which here is another task.
    { path: '1/cwd', errno: 'EPERM' },
    { path: '$other/cwd', errno: 'EPERM' },
  ])('$path', async ({ path, at, errno }) => {
    const where = places()
    const name = newName()
    const call = `read me rest <$proc/self/stat; exec $caller mknod $proc/${path}/${name} ${NODE}`
    const script = `export proc other caller; unshare --pid --fork sh -c '${call}'`
    const { stdout } = await inside(script, where)
    expect(JSON.parse(stdout)).toEqual(errno ? { errno } : { ok: true })
    if (at !== undefined) expect(lstatSync(join(where.place, at, name)).isCharacterDevice()).toBe(true)
  })
})

/** When a task started is known to a hundredth of a second. */
test('the caller is 1 in its pid namespace, and not what is 1 in the one above and started at once with it', async () => {
  for (let count = 0; count < 20; count++) {
    const { place, proc } = places()
    const name = newName()
    const call = `cd ${place} && mount -t proc none ${proc} && unshare --pid --fork ${fixture('caller')} mknod ${proc}/1/cwd/${name} ${NODE}`
    const { stdout, stderr } = await host.run(['--pidns'], ['unshare', '--mount', 'sh', '-c', call])
    expect({ stdout, stderr }).toEqual({ stdout: '{"errno":"EPERM"}\n', stderr: '' })
    expect(existsSync(join(place, name))).toBe(false)
  }
})

describe('attacks', () => {
  /** In a mount namespace of its own a container may put our directory of procfs in other places. */
  test('the numbers of the engine lead nowhere, also where they are mounted on others', async () => {
    const name = newName()
    const threads = readdirSync(`/proc/${host.enginePid}/task`)
    const place = directory(join(dir, `mounts${serial++}`), BASE, 0o755)
    const script = `mount -t tmpfs none ${place} && mkdir ${place}/deep ${place}/empty
      for pid in ${threads.join(' ')} ${process.pid}; do
        for link in root cwd task/$pid/root fd/3; do ${fixture('caller')} mknod /proc/$pid/$link/tmp/${name} 020666 1 3; done
        mount --bind /proc/$pid ${place}/deep && cd ${place}/deep
        for link in root cwd fd/3; do ${fixture('caller')} mknodat /proc/$pid $link/tmp/${name} 020666 1 3; done
        for link in ${place}/deep root cwd; do ${fixture('caller')} mknod $link/root/tmp/${name} 020666 1 3; done
        cd /; umount -l ${place}/deep
        mount --bind /proc/$pid /proc/$$ && ${fixture('caller')} mknod /proc/$$/root/tmp/${name} 020666 1 3
        umount -l /proc/$$
        mount --bind ${place}/empty /proc/${host.enginePid} && ${fixture('caller')} mknod /proc/$pid/root/tmp/${name} 020666 1 3
        umount -l /proc/${host.enginePid}
        true
      done`
    const done = await host.run([], ['unshare', '--mount', 'sh', '-c', script])
    expect(done.stdout.match(/"errno"/g)?.length).toBeGreaterThan(50)
    expect(done.stdout).not.toMatch(/"ok"/)
    expect(existsSync(`/tmp/${name}`)).toBe(false)
  })

  /** In one procfs lie the links of the engine, in the other one those that may be followed. */
  test('a link of the engine, mounted on one of another process between two looks', async () => {
    const where = places()
    const name = newName()
    // Where that process stands there is no such directory.
    const swapped = ['/proc/$engine/root', '$proc/$other/cwd', '2000', `$proc/$other/cwd/tmp/${name}`]
    const { stdout } = await inside([fixture('link-swapper'), ...swapped].join(' '), where)
    const { made, mounted } = JSON.parse(stdout) as { made: number; mounted: number }
    expect({ made, escaped: existsSync(`/tmp/${name}`) }).toEqual({ made: 0, escaped: false })
    expect(mounted).toBeGreaterThan(100)
  })

  test('entries with something mounted on them leave no descriptor of ours open', async () => {
    const where = places()
    const call = `$caller mknod $proc/$other/cwd/${newName()} ${NODE}`
    await inside(call, where)
    const before = descriptorsOf(host.enginePid).length
    const calls = `for turn in $(seq 30); do ${call}; done`
    const { stdout } = await inside(`mkfifo fifo; mount --bind fifo $proc/$other/stat; ${calls}`, places())
    expect(stdout).toBe('{"errno":"EPERM"}\n'.repeat(30))
    const open = (): number => descriptorsOf(host.enginePid).length
    await until('they are closed', () => open() < before + 10)
  })

  /** It stands in the host's root directory, as a process of the container's user namespace, whose root may look at all of them. */
  test('the walker is not entered, by our calls or by those of the kernel', async () => {
    const where = places()
    const name = newName()
    const closed = directory(join(where.place, 'closed'), BASE + 1, 0o700)
    directory(join(closed, 'in'), BASE + 1, 0o700)
    const script = `$caller mknod ${closed}/in/${name} ${NODE}
      for walker in $(grep -l "^PPid:[[:space:]]$engine$" /proc/[0-9]*/status | cut -d/ -f3); do for task in /proc/$walker/task/*; do
        for link in root cwd fd/3/../root; do $caller mknod $task/$link/tmp/${name} ${NODE}; done
        $caller mknodat $task root/tmp/${name} ${NODE}
        ls -d $task/root/ $task/cwd/ $task/fd/* 2>/dev/zero
        head -c 1 $task/maps 2>/dev/zero
      done; done`
    const [first, ...others] = (await inside(script, where)).stdout.trimEnd().split('\n')
    expect(first).toBe('{"ok":true}')
    expect(others.length).toBeGreaterThan(10)
    expect(others.filter((line) => !/^\{"errno":"(EACCES|EPERM|ENOENT)"\}$/.test(line))).toEqual([])
    expect(existsSync(`/tmp/${name}`)).toBe(false)
  })
})
