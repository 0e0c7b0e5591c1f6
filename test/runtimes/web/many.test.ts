// A page of a thousand containers that were handed over, beside more calls than anybody can read.
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Daemon } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { USERNS } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'
import { PATIENCE_MS, Viewer, Web, withoutChromium } from '../../support/web.ts'

const CONTAINERS = 1000
/** A tab in which nothing runs for so long is frozen, for who types. */
const FROZEN_MS = 1000 * SLOWNESS
/** So much more memory than after a while neither tab nor server may have later on. */
const MORE = 48 * 1024 * 1024

describe.skipIf(withoutChromium)(withReason('the page of a thousand containers', withoutChromium), () => {
  const children: ChildProcess[] = []
  let daemon: Daemon
  let web: Web
  let viewer: Viewer
  let page: Page

  const inContainer = (id: string, command: string): string =>
    `${fixture('filtered')} ${daemon.socket} --userns ${USERNS} --await-agent --metadata security.syscalls.intercept.mknod=true --id ${id} -- ${command}`
  const start = (script: string): void => {
    children.push(spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'ignore', 'inherit'], detached: true }))
  }

  beforeAll(async () => {
    daemon = await Daemon.start()
    ;[web, viewer] = await Promise.all([Web.start(join(daemon.directory, 'feed.sock')), Viewer.start()])
    page = await viewer.page()
    const one = inContainer('container-$n', 'sleep 1000')
    // A few at a time: how fast they start is not what is asked.
    start(`n=0; while [ $n -lt ${CONTAINERS} ]; do n=$((n + 1)); ${one} & [ $((n % 20)) = 0 ] && sleep 0.1; done; wait`)
    await page.goto(web.address)
    await page.getByText(`${CONTAINERS} in all, the first 200 are shown`).waitFor({ timeout: 4 * PATIENCE_MS })
  }, 6 * PATIENCE_MS)
  afterAll(async () => {
    await viewer?.close()
    await web?.end()
    for (const { pid } of children) if (pid) process.kill(-pid, 'SIGKILL')
    await daemon?.close()
  }, 4 * PATIENCE_MS)

  /** Returns the longest time in which a timer of the tab was late, while something is done there. */
  async function stall(action: () => Promise<void>): Promise<number> {
    await page.evaluate(`window.late = 0; window.last = Date.now(); window.timer = setInterval(() => {
      window.late = Math.max(window.late, Date.now() - window.last); window.last = Date.now() }, 10)`)
    await action()
    return page.evaluate<number>('clearInterval(window.timer), window.late')
  }

  test('one finds a container while typing, and it is fit for all', async () => {
    expect(await viewer.flaws(page)).toEqual([])
    const late = await stall(async () => {
      await page.getByRole('searchbox').pressSequentially('container-777')
      await page.getByText(`1 of ${CONTAINERS}`).waitFor()
      await page.getByRole('searchbox').fill('')
      await page.getByRole('button', { name: 'Show more' }).click()
      await page.getByText(`${CONTAINERS} in all, the first 400 are shown`).waitFor()
    })
    expect(late).toBeLessThan(FROZEN_MS)
  })

  test('more events than anybody can read do not freeze it: it shows a sample, and says so', async () => {
    const once = `${fixture('mknod-loop')} --warmup 0 --count 1000000 --device 1:1 ${daemon.directory}/node`
    const loop = `while :; do ${once} >/dev/null; done`
    start(inContainer('flood', `/bin/sh -c '${loop}'`))
    await page.reload()
    // The order stays while the pointer is in the table.
    await page.getByRole('searchbox').fill('flood')
    await page.getByRole('link', { name: 'flood' }).click()
    await page.getByText(/^The last 200 events that the page has received. \d+ more came too fast/).waitFor()
    const memory = async (): Promise<readonly number[]> => {
      await page.requestGC()
      const ofServer =
        1024 * Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${web.child.pid}/status`, 'latin1'))![1])
      return [await page.evaluate<number>('performance.memory.usedJSHeapSize'), ofServer]
    }
    const plot = page.getByRole('img', { name: /^Calls per second: done \S+, left \d{4,}/ })
    /** The table keeps no look at the calls from coming in time. */
    const watch = async (seconds: number): Promise<void> => {
      const end = Date.now() + 1000 * seconds
      while (Date.now() < end) {
        await plot.waitFor({ timeout: 8000 * SLOWNESS })
        await new Promise((resolve) => setTimeout(resolve, 1000))
      }
    }
    await watch(5)
    const before = await memory()
    const late = await stall(() => watch(15))
    expect(late).toBeLessThan(FROZEN_MS)
    const after = await memory()
    for (const [index, bytes] of after.entries()) expect(bytes - before[index]!).toBeLessThan(MORE)
    expect(viewer.complaints).toEqual([])
  })
})
