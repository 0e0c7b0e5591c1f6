import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TcpAddress } from '../api/api-server.ts'
import { HttpError } from '../api/bounds.ts'
import { DaemonLink } from '../api/daemon-link.ts'
import { type PageKnowledge, PageRoutes } from '../api/page-routes.ts'
import { PageServer } from '../api/page-server.ts'
import { escaped } from '../calls/escape.ts'
import { ownProgram } from '../processes/node-programs.ts'
import { eachRefusal, formatUnserved, rowMaker, rowsWithNotes, saysHere, withNote } from './explain.ts'
import { usualSocket } from './open-feed.ts'
import { print, say } from './print.ts'
import { checkUsage, STATUS } from './usage.ts'

interface WebOptions {
  readonly listen?: TcpAddress
  readonly open?: boolean
  readonly feed?: string
}

/** Addresses that only this machine reaches. */
const LOOPBACK = /^(127\.0\.0\.1|::1)$/

/** How long `doctor` may take. */
const DOCTOR_MS = 30_000

/** Runs `intercede doctor`, which looks at the machine for a while. Its status only says whether all is well. */
const examine = (feed: string | undefined): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const words = ['doctor', '--format', 'json', ...(feed === undefined ? [] : ['--feed', feed])]
    const [program, args] = ownProgram(...words)
    execFile(program, args, { timeout: DOCTOR_MS }, (_error, stdout, stderr) => {
      if (stdout.startsWith('{')) resolve(JSON.parse(stdout))
      else reject(new HttpError(503, stderr.replace(/^intercede: /, '').trim() || 'Cannot look: doctor did not end'))
    })
  })

/**
 * Explains the refusals of a container. No word of a command line means one whose id is not printable, so its rows have
 * no command with that id.
 */
const explainIn =
  (path: string | undefined): PageKnowledge['explain'] =>
  (daemon, all, view, others) => {
    const rows = rowsWithNotes(eachRefusal([view]), rowMaker(all, daemon, path), eachRefusal(others)).map(withNote)
    if (escaped(view.id) === view.id) return rows
    return rows.map(({ set: _, now: __, forGood, ...row }) => ({
      ...row,
      ...(forGood?.includes(escaped(view.id)) ? {} : { forGood }),
    }))
  }

/** Writes a page of our own that leads to an address: other users see the command lines of programs. */
function openInBrowser(address: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'intercede-web-'))
  const page = join(directory, 'open.html')
  writeFileSync(page, `<!doctype html><meta http-equiv="refresh" content="0;url=${address}">\n`, { mode: 0o600 })
  spawn('xdg-open', [page], { stdio: 'ignore', detached: true })
    .on('error', () => say('Cannot open a browser: there is no xdg-open; open the address yourself'))
    .unref()
  return directory
}

export async function webCommand({ listen = { host: '127.0.0.1', port: 0 }, open, feed }: WebOptions): Promise<void> {
  checkUsage(
    LOOPBACK.test(listen.host),
    `Cannot serve the page at ${listen.host}: only at 127.0.0.1 and ::1; for another machine, use a tunnel such as "ssh -L"`,
  )
  const daemon = new DaemonLink(feed ?? usualSocket())
  const routes = new PageRoutes(daemon, {
    showsRuns: feed === undefined,
    explain: explainIn(feed),
    remedyOf: saysHere,
    hintsFor: formatUnserved,
    examine: () => examine(feed),
  })
  const server = new PageServer({ routes, say })
  let directory: string | undefined
  const end = (): void => {
    server.close()
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true })
  }
  process.once('SIGTERM', end)
  process.once('SIGINT', () => {
    process.exitCode = STATUS.interrupted
    end()
  })
  const address = await server.listen(listen).catch((error: NodeJS.ErrnoException) => {
    server.close()
    const why = error.code === 'EADDRINUSE' ? 'another program has that port; name another' : error.message
    throw new Error(`Cannot serve the page at ${listen.host}:${listen.port}: ${why}`)
  })
  print(`${address}\n`)
  say('Open this address in a browser. It admits one browser, once. Ctrl-C ends the page')
  if (open) directory = openInBrowser(address)
}
