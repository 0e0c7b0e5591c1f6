// What a container of `run` makes with the ids of the host (`:idmap`, `--rootfs`) and a local user of the host wants: a setuid
// program, a node of the console. Each tries to leave a way to it open; fs/exec.c bprm_fill_uid() then makes the user root.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { CLI } from '../support/machine.ts'
import { type Ended, run, sh, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'

const cannot = unable() ?? missing('setpriv', 'setfattr', 'gcc', 'unshare')
const NOBODY = 65_534
const USERS = 100
const base = mkdtempSync(join(tmpdir(), 'intercede-real-ids-'))
chmodSync(base, 0o755)
afterAll(() => rmSync(base, { recursive: true, force: true }))

let scratch = ''
beforeEach(() => {
  scratch = mkdtempSync(join(base, 'case-'))
  chmodSync(scratch, 0o755)
})

interface Owned {
  readonly uid?: number
  readonly gid?: number
}

/** Makes a directory in `scratch`, whose umask is that of the test. */
function folder(name: string, mode: number, { uid = 0, gid = 0 }: Owned = {}): string {
  const path = join(scratch, name)
  mkdirSync(path, { recursive: true })
  chownSync(path, uid, gid)
  chmodSync(path, mode)
  return path
}

/** Runs a shell as a user of the host, who is in one group; setpriv itself still has capabilities when it executes that. */
const asUser = (gid: number, script: string): string =>
  spawnSync('setpriv', [`--reuid=${NOBODY}`, `--regid=${gid}`, '--clear-groups', 'sh', '-c', script], {
    cwd: '/',
    encoding: 'utf8',
  }).stdout

/** Whether the setuid program that a container left makes a user root. */
const makesRoot = (program: string, gid = NOBODY): boolean => asUser(gid, `${program} -u`) === '0\n'

/** Runs a container that shall leave a setuid program, which prints who it is, and open the way to it. */
const leave = (bind: string, at = bind): Ended =>
  run(['--bind', `${bind}:idmap`, ...sh(`cp /usr/bin/id ${at}/id && chmod 4755 ${at}/id && chmod 755 ${at}`)])

/** An access control list by which NOBODY may search: owner, that user, group, mask, others. */
const ACL = `0x02000000${[
  ['01000700', 'ffffffff'],
  ['02000100', 'feff0000'],
  ['04000000', 'ffffffff'],
  ['10000100', 'ffffffff'],
  ['20000000', 'ffffffff'],
]
  .map((entry) => entry.join(''))
  .join('')}`

describe.skipIf(cannot)(withReason('with the ids of the host', cannot), () => {
  test('a setuid program makes a user root, if the way to it is open', () => {
    const program = join(folder('open', 0o755), 'id')
    copyFileSync('/usr/bin/id', program)
    chmodSync(program, 0o4755)
    expect(makesRoot(program)).toBe(true)
  })

  test('a container that opens the directory that it got is refused', () => {
    const trees = folder('trees', 0o700)
    const { status, stderr } = leave(trees)
    expect([makesRoot(join(trees, 'id')), status]).toEqual([false, 125])
    expect(stderr).toContain(`use a directory in it: mkdir ${trees}/tree, or add :ro`)
  })

  test('the remedy holds: a directory in it can be opened, and nobody gets there', () => {
    const tree = join(folder('trees', 0o700), 'tree')
    mkdirSync(tree)
    expect(leave(tree)).toMatchObject({ status: 0, stderr: '' })
    expect([existsSync(join(tree, 'id')), makesRoot(join(tree, 'id'))]).toEqual([true, false])
  })

  test('a root that is the closed directory itself is refused, one in it is not', () => {
    const trees = folder('trees', 0o700)
    const [own, inner] = [trees, join(trees, 'inner')]
    for (const root of [inner, own]) {
      mkdirSync(join(root, 'bin'), { recursive: true })
      copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'))
    }
    const script = 'cp /bin/busybox /id && chmod 4755 /id && chmod 755 /'
    const made = ['/bin/busybox', 'sh', '-c', script.replaceAll(/(cp|chmod) /g, '/bin/busybox $1 ')]
    expect(run(['--rootfs', own, '--', ...made]).status).toBe(125)
    expect([existsSync(join(own, 'id')), existsSync(join(own, 'dev'))]).toEqual([false, false])
    expect(run(['--rootfs', inner, '--', ...made]).status).toBe(0)
    expect(existsSync(join(inner, 'id'))).toBe(true)
    expect(asUser(NOBODY, `${inner}/id id -u`)).toBe('')
  })

  test('a node of the console is out of reach', () => {
    const trees = folder('trees', 0o700)
    const inner = join(trees, 'inner')
    mkdirSync(inner)
    const script = (at: string) => sh(`mknod -m 666 ${at}/console c 5 1 && chmod 755 ${at}`)
    const open = (at: string) => asUser(NOBODY, `(: <>${at}/console) && echo opened`)
    for (const at of [trees, inner]) {
      const { status } = run(['-c', 'mknod', '--bind', `${at}:idmap`, ...script(at)])
      expect([open(at), status]).toEqual(['', at === inner ? 0 : 125])
    }
  })

  test.each([
    { what: 'a user of the host owns', above: { mode: 0o700, uid: NOBODY } },
    { what: 'a group of the host may search', above: { mode: 0o750, gid: USERS }, gid: USERS },
    { what: 'others may search', above: { mode: 0o701 } },
  ])('a directory that $what keeps nobody out', ({ above: { mode, ...owned }, gid }) => {
    const tree = join(folder('above', mode, owned), 'tree')
    mkdirSync(tree, { mode: 0o755 })
    const { status, stderr } = leave(tree)
    expect([makesRoot(join(tree, 'id'), gid), status]).toEqual([false, 125])
    const closed = join(scratch, 'above/closed')
    expect(stderr).toContain(`install -d -m 700 ${closed} && mv ${tree} ${closed}/, or add :ro`)
  })

  test('nor does a directory whose access control list lets a user in', () => {
    const above = folder('above', 0o700)
    const tree = join(above, 'tree')
    mkdirSync(tree, { mode: 0o755 })
    expect(spawnSync('setfattr', ['-n', 'system.posix_acl_access', '-v', ACL, above]).status).toBe(0)
    const { status } = leave(tree)
    expect([makesRoot(join(tree, 'id')), status]).toEqual([false, 125])
  })

  test('a link on the way is refused, and its target is named', () => {
    const tree = join(folder('closed', 0o700), 'tree')
    mkdirSync(tree)
    const home = folder('home', 0o755, { uid: NOBODY })
    symlinkSync(dirname(tree), join(home, 'link'))
    const { status, stderr } = leave(join(home, 'link/tree'))
    expect([status, readdirSync(tree)]).toEqual([125, []])
    expect(stderr).toContain(`use ${tree}, or add :ro`)
  })

  test('what was checked is what is mounted, whoever exchanges names meanwhile', async () => {
    const home = folder('home', 0o755, { uid: NOBODY })
    for (const [name, mode] of [
      ['one', 0o700],
      ['other', 0o755],
    ] as const) {
      folder(`home/${name}`, mode)
      folder(`home/${name}/tree`, 0o755)
    }
    const [one, other] = ['one', 'other'].map((name) => join(home, name)) as [string, string]
    const swapper = spawn(fixture('name-swapper'), [`${NOBODY}`, one, other], { stdio: ['ignore', 'pipe', 'inherit'] })
    const gone = once(swapper, 'exit')
    const statuses = new Set<number | null>()
    try {
      await once(swapper.stdout, 'data')
      // The swapper decides which comes how often; no more than 200 tries are needed to see both.
      for (let tries = 0; tries < 12 || (statuses.size < 2 && tries < 200); tries++) {
        statuses.add(
          run(['--bind', `${one}/tree:/mnt:idmap`, ...sh('cp /usr/bin/id /mnt/id && chmod 4755 /mnt/id')]).status,
        )
      }
    } finally {
      swapper.kill()
      await gone
    }
    expect(statuses).toEqual(new Set([0, 125]))
    expect([one, other].filter((path) => makesRoot(join(path, 'tree/id')))).toEqual([])
  })

  test('a file with another name, which users may reach, is refused', () => {
    const file = join(folder('closed', 0o700), 'file')
    writeFileSync(file, '')
    const target = ['--bind', `${file}:/mnt/file:idmap`, ...sh('cat /usr/bin/id >/mnt/file && chmod 4755 /mnt/file')]
    linkSync(file, join(scratch, 'name'))
    const refused = run(target)
    expect([makesRoot(join(scratch, 'name')), refused.status]).toEqual([false, 125])
    expect(refused.stderr).toContain('the file has 2 names')
    rmSync(join(scratch, 'name'))
    expect(run(target)).toMatchObject({ status: 0 })
    expect([existsSync(file), makesRoot(file)]).toEqual([true, false])
  })

  /** Runs it in a mount namespace of its own, in which a line of shell has mounted something. */
  const within = (mounts: string, bind: string, at: string): Ended =>
    spawnSync(
      'unshare',
      [
        '--mount',
        'sh',
        '-c',
        `${mounts} && exec "$@"`,
        'sh',
        process.execPath,
        CLI,
        'run',
        '--bind',
        `${bind}:idmap`,
      ].concat(sh(`cp /usr/bin/id ${at}/id && chmod 4755 ${at}/id`)),
      { encoding: 'utf8', input: '' },
    )

  test.each([
    { what: 'the tree', from: 'closed/tree', to: 'shown', at: 'shown' },
    { what: 'a part of the tree', from: 'closed/tree/part', to: 'shown', at: 'shown' },
    { what: 'what is above the tree', from: 'closed', to: 'shown', at: undefined },
    { what: 'a directory of users, in the tree', from: 'home', to: 'closed/tree/part', at: 'home' },
  ])('a mount elsewhere that shows $what', ({ from, to, at }) => {
    folder('closed', 0o700)
    for (const name of ['closed/tree', 'closed/tree/part', 'shown', 'home']) folder(name, 0o755)
    const tree = join(scratch, 'closed/tree')
    const { status, stderr } = within(`mount --bind ${join(scratch, from)} ${join(scratch, to)}`, tree, tree)
    expect(status, stderr).toBe(at === undefined ? 0 : 125)
    if (at !== undefined) expect(stderr).toContain(`can reach it at "${join(scratch, at)}"`)
  })
})
