import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { Host } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'
import { Viewer, Web, withoutChromium } from '../../support/web.ts'

describe.skipIf(withoutChromium)(withReason('the page', withoutChromium), () => {
  let host: Host
  let web: Web
  let viewer: Viewer
  let page: Page
  let container: Promise<unknown>
  beforeAll(async () => {
    host = await Host.start()
    ;[web, viewer] = await Promise.all([Web.start(host.feedSocket), Viewer.start()])
    page = await viewer.page()
    const call = `${fixture('caller')} mknod`
    const loop = `cd ${host.directory}; while [ ! -e stop ]; do ${call} mem 020666 1 1; ${call} n 020666 1 3; rm -f n; sleep 0.1; done`
    container = host.run(['--id', 'build'], ['sh', '-c', loop])
  })
  afterAll(async () => {
    writeFileSync(join(host.directory, 'stop'), '')
    await container
    await viewer?.close()
    await web?.end()
    host?.close()
  })

  test('shows the containers', async () => {
    await page.goto(web.address)
    await page.getByRole('link', { name: 'build' }).waitFor()
    expect(new URL(page.url()).hash).toBe('#/')
    expect(viewer.complaints).toEqual([])
    expect(web.said).not.toContain('refused a part')
  })
})
