import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connectUnix, send } from '../../../src/kernel/socket.ts'
import { Daemon, Maker } from '../../support/daemon.ts'
import { execute, until } from '../../support/host.ts'
import { sleep } from '../../support/restart-world.ts'
import { statFields } from '../../support/stat.ts'

/** Others may work on the machine too. */
const START_S = 60
/** Time for several looks at what has become free, and at the engine. */
const SHORT_MS = 3000
/** More than enough. */
const ROOM = 2048
const TICKS_PER_MS = 0.1
const SHORTAGE = /^Cannot accept connections until descriptors are free: .*EMFILE/
/** What both sockets answer to what is sent here. */
const NONSENSE = /^Cannot (?:take a container of LXC|read container process state)/

/** How many descriptors a process may have from now on. */
const limit = (pid: number, count: number) => execute('prlimit', ['--pid', String(pid), `--nofile=${count}:`])

/** Some of theirs have high numbers. */
const firstFree = (pid: number): number => {
  const taken = new Set(readdirSync(`/proc/${pid}/fd`))
  let number = 0
  while (taken.has(String(number))) number++
  return number
}

/** Of a processor, in clock ticks: utime and stime of proc_pid_stat(5). */
const used = (pid: number): number => {
  const [user, system] = statFields(`/proc/${pid}/stat`).slice(11, 13).map(Number)
  return user! + system!
}

test('without a free descriptor the keeper rests, says so once for each socket, and goes on when there are some', {
  timeout: 240_000,
}, async () => {
  const daemon = await Daemon.start()
  const maker = new Maker(daemon)
  const said = (text: RegExp): number => daemon.log.filter(({ message }) => text.test(String(message))).length
  try {
    expect(await maker.make()).toBe('ok')
    const { pid, engine } = daemon
    await limit(pid!, firstFree(pid!))
    using runtime = connectUnix(daemon.socket)
    using monitor = connectUnix(join(daemon.directory, 'lxc.sock'), 'packet')
    for (const each of [runtime, monitor]) send(each, Buffer.from('{}'))
    await until('it has said so', () => said(SHORTAGE) === 2, START_S)
    const [before, start] = [used(pid!), performance.now()]
    await sleep(SHORT_MS)
    expect(used(pid!) - before).toBeLessThan(((performance.now() - start) * TICKS_PER_MS) / 4)
    expect(await maker.make()).toBe('ok')
    expect([said(SHORTAGE), said(NONSENSE)]).toEqual([2, 0])
    await limit(pid!, ROOM)
    await until('both are heard', () => said(NONSENSE) === 2, START_S)
    expect(await new Maker(daemon).once()).toBe('ok')
    expect([daemon.pid, daemon.engine]).toEqual([pid, engine])
  } finally {
    maker.end()
    await daemon.close()
  }
})
