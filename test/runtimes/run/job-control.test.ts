import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { until } from '../../support/host.ts'
import { cgroupOf, hasRuntime, INTERCEDE, running, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { stateOf } from '../../support/stat.ts'
import { PROMPT, Typist } from '../../support/typist.ts'

const CTRL_C = '\x03'
const CTRL_Z = '\x1a'
const TICKS = `sh -c 'while :; do echo ti""ck; sleep 0.1; done'`

const none = unable()
describe.skipIf(none).each(['crun', 'runc'] as const)(withReason('job control of run with %s', none), (runtime) => {
  let user: Typist
  beforeEach(({ skip }) => {
    if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    user = new Typist()
  })
  afterEach(async () => {
    user.hangUp()
    await until('all has ended', () => running(` ${process.pid}.`).length === 0)
  })
  const run = (command: string): string =>
    `node "${INTERCEDE}" run --runtime ${runtime} --name t${process.pid} ${command}`
  const own = (): number => Number(running(`t${process.pid}\0`).find((pid) => cgroupOf(Number(pid)).length > 0))

  test('Ctrl-C ends the command at once', async () => {
    user.type(`${run('-- sleep 61')}\n`)
    await until('it sleeps', () => running('sleep\x0061\0').length > 0)
    user.type(CTRL_C)
    await user.sees(PROMPT)
    user.type('echo status $?\n')
    await user.sees(/status 130/)
  })

  test('Ctrl-Z gives the terminal back, fg continues', async () => {
    user.type(`${run(`-- ${TICKS}`)}\n`)
    await user.sees(/tick/)
    user.type(CTRL_Z)
    await user.sees(/Stopped/)
    user.type('stty -a | grep -o " icanon"; echo at the she""ll\n')
    expect(await user.sees(/at the shell/)).toMatch(/ icanon/)
    user.type('fg\n')
    await user.sees(/tick\r\n.*tick\r\n/s)
    user.type(CTRL_C)
    await user.sees(PROMPT)
  })

  test('Ctrl-Z in a shell of the container stops a job of that shell', async () => {
    user.type(`${run('-- bash --norc --noprofile -i')}\n`)
    user.type('echo ins""ide\n')
    await user.sees(/inside/)
    user.type(`${TICKS}\n`)
    await user.sees(/tick/)
    user.type(CTRL_Z)
    await user.sees(/Stopped/)
    user.type('kill %1; wait; cat /proc/sys/kernel/hostname\n')
    await user.sees(new RegExp(`t${process.pid}`))
    user.type('exit 3\n')
    await user.sees(/exit\r\n.*typist> $/s)
    user.type('echo status $?\n')
    await user.sees(/status 3/)
  })

  test('without a terminal of its own it is frozen by Ctrl-Z, and goes on with fg', async () => {
    user.type(`${run(`-- ${TICKS}`)} | cat\n`)
    await user.sees(/tick/)
    const pid = own()
    const [group] = cgroupOf(pid)
    user.type(CTRL_Z)
    await user.sees(/Stopped/)
    await until('it is stopped', () => stateOf(pid) === 'T')
    const events = `/proc/${pid}/root/sys/fs/cgroup/intercede/${group}/cgroup.events`
    await until('it is frozen', () => readFileSync(events, 'utf8').includes('frozen 1'))
    user.type('fg\n')
    await user.sees(/tick\n?.*tick/s)
    user.type(CTRL_C)
    await user.sees(PROMPT)
    await until('it has ended', () => cgroupOf(pid).length === 0)
  })

  test('in the background it runs on, and its input is at its end', async () => {
    user.type(`${run(`-- sh -c 'cat; echo da""rk'`)} & wait; echo status $?\n`)
    await user.sees(/dark[\s\S]*status 0/)
    user.type(`timeout 2 ${run('-- sleep 62')}; echo status $?\n`)
    await user.sees(/status 124/)
  })

  test('in a session without a terminal it leaves the one of the shell alone', async () => {
    user.type(`setsid --wait ${run(`-- sh -c 'cat; tty; echo da""rk'`)}; echo status $?\n`)
    await user.sees(/not a tty[\s\S]*dark[\s\S]*status 0/)
  })

  test('a stopped run ends with its terminal', async () => {
    const seconds = `${4_000_000 + process.pid}`
    user.type(`${run(`-- sh -c 'echo rea""dy; exec sleep ${seconds}'`)}\n`)
    await user.sees(/ready/)
    user.type(CTRL_Z)
    await user.sees(/Stopped/)
    user.hangUp()
    await until('nothing of it runs', () => running(seconds).length === 0)
  })

  test.each(['bash --norc --noprofile -i', 'dash -i'])(
    'the terminal of a run that was killed by SIGKILL is as before in %s',
    async (shell) => {
      user.hangUp()
      user = new Typist(shell)
      user.type('stty -g; echo be""fore\n')
      const [before] = /(?:[0-9a-f]+:){35}[0-9a-f]+/.exec(await user.sees(/before/))!
      user.type(`${run(`-- ${TICKS}`)}\n`)
      await user.sees(/tick/)
      process.kill(own(), 'SIGKILL')
      await user.sees(PROMPT)
      await sleep(1000)
      user.type('stty -g; echo at the she""ll\n')
      expect(await user.sees(/at the shell/)).toContain(before)
    },
  )

  test('the terminal that the shell has already is left to it when a stopped run is killed', async () => {
    user.type(`${run(`-- ${TICKS}`)}\n`)
    await user.sees(/tick/)
    user.type(CTRL_Z)
    await user.sees(/Stopped/)
    user.type('stty -echo -icanon; kill -9 %1; wait; sleep 1; stty -a | grep -o " .echo "; echo at the she""ll\n')
    expect(await user.sees(/at the shell/)).toContain(' -echo ')
  })
})
