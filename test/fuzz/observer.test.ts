import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { setPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AT_FDCWD } from '../../src/abi/fcntl.ts'
import { attachDeviceProgram } from '../../src/kernel/bpf.ts'
import { O_DIRECTORY, O_RDONLY, openat } from '../../src/kernel/files.ts'
import { missing } from '../fixtures.ts'
import { Group, withoutCgroups } from '../kernel/bpf-world.ts'
import { until } from '../kernel/host.ts'
import { unable } from '../runtimes/run-machine.ts'
import { MARK, Observer } from './observer.ts'
import { family, isContained } from './processes.ts'

const cannot = unable() ?? missing('gcc', 'unshare', 'getfattr', 'setfattr') ?? withoutCgroups()

/** On a disk of the host, outside of the temporary directory, where other tests are. */
const ON_HOST = `/var/tmp/intercede-observed-${process.pid}`
/** r3 = MARK; r0 = 1; exit */
const MARKED = Buffer.from('b703000000000000b7000000010000009500000000000000', 'hex')
MARKED.writeInt32LE(MARK, 4)

describe.skipIf(cannot)(`the observer${cannot ? `: skipped, ${cannot}` : ''}`, () => {
  let top: string
  let outside: string
  let bystander: ChildProcess
  const undo: (() => unknown)[] = []

  beforeAll(() => {
    top = mkdtempSync(join(tmpdir(), 'intercede-fuzz-'))
    outside = join(top, 'out')
    mkdirSync(outside)
    writeFileSync(ON_HOST, '')
    bystander = spawn('sleep', ['10000'], { stdio: 'ignore' })
  })
  afterAll(async () => {
    for (const each of undo.splice(0).reverse()) await each()
    bystander.kill('SIGKILL')
    rmSync(top, { recursive: true })
    rmSync(ON_HOST, { force: true })
  })

  const changes: readonly { readonly what: string; readonly does: () => unknown; readonly finds: RegExp }[] = [
    {
      what: 'a mount',
      does() {
        mkdirSync(join(top, 'mounted'))
        execFileSync('mount', ['-t', 'tmpfs', 'none', join(top, 'mounted')])
        undo.push(() => execFileSync('umount', [join(top, 'mounted')]))
      },
      finds: /^a mount came to the host: .*tmpfs/,
    },
    { what: 'a file outside', does: () => writeFileSync(join(outside, 'x'), ''), finds: /^outside of the container: / },
    {
      what: 'a device node',
      does() {
        execFileSync('mknod', [`${ON_HOST}-node`, 'c', '1', '3'])
        undo.push(() => rmSync(`${ON_HOST}-node`))
      },
      finds: /^device nodes: gone: {2}new: .*-node 1:3/,
    },
    {
      what: 'an attribute',
      does: () => execFileSync('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', ON_HOST]),
      finds: /^attributes: .*intercede-observed/,
    },
    {
      what: 'the scheduling of a process of the host',
      does: () => setPriority(bystander.pid!, 7),
      finds: /^a thread of the host was scheduled: .* sleep: nice 0, .* became nice 7,/,
    },
    {
      what: 'a cgroup',
      does() {
        const path = new Group().path
        mkdirSync(`${path}/fuzz-${MARK}-0`)
        undo.push(
          () => rmdirSync(path),
          () => rmdirSync(`${path}/fuzz-${MARK}-0`),
        )
      },
      finds: /^a cgroup was made: .*fuzz-\d+-0$/,
    },
    {
      what: 'a device program',
      does() {
        const group = new Group()
        undo.push(() => group.remove())
        using directory = openat(AT_FDCWD, Buffer.from(`${group.path}\0`), O_RDONLY | O_DIRECTORY)
        attachDeviceProgram(directory, MARKED)
      },
      finds: /^a program of the container: attached .*intercede-test/,
    },
    {
      what: 'a descriptor inside',
      async does() {
        // What Node gives as a pipe is a socket.
        const child = spawn('unshare', ['--user', '--pid', '--fork', '--kill-child', 'cat'], {
          stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
        })
        undo.push(() => child.kill('SIGKILL'))
        await until('the container is there', () => family(child.pid!).some(isContained))
      },
      finds: /^a descriptor inside: .* has 3: socket:/,
    },
  ]

  test('finds each kind of change, and nothing where there is none', { timeout: 300_000 }, async () => {
    const observer = new Observer(top, outside, process.pid)
    const findings = (): readonly string[] => {
      observer.check()
      observer.checkAll()
      return [...observer.findings]
    }
    expect(findings()).toEqual([])
    for (const { does } of changes) await does()
    const found = findings()
    const missed = changes.filter(({ finds }) => !found.some((each) => finds.test(each)))
    expect(
      missed.map(({ what }) => what),
      found.join('\n'),
    ).toEqual([])
  })
})
