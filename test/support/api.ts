// `intercede api` as a child, and questions to it: for tests of what it answers and of what clients may take of it.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from './host.ts'
import { CLI } from './machine.ts'

export interface ApiAnswer {
  readonly status: number
  readonly type: string
  readonly text: string
}

/** A server that answers at a socket of its own. */
export class Api {
  readonly socket: string
  readonly child: ChildProcess
  readonly #directory = mkdtempSync(join(tmpdir(), 'intercede-api-'))
  said = ''

  private constructor(feed: string, options: readonly string[]) {
    this.socket = join(this.#directory, 'view.sock')
    this.child = spawn(process.execPath, [CLI, 'api', '--feed', feed, '--socket', this.socket, ...options], {
      stdio: ['ignore', 'ignore', 'pipe'],
      // As in its unit.
      env: { ...process.env, NODE_OPTIONS: '--max-old-space-size=128' },
    })
    this.child.stderr!.on('data', (chunk: Buffer) => (this.said += chunk.toString()))
  }

  /** @param options more of the command */
  static async start(feed: string, ...options: readonly string[]): Promise<Api> {
    const api = new Api(feed, options)
    await until('it answers', () =>
      api.ask('/openapi.json').then(
        ({ status }) => status === 200,
        () => false,
      ),
    )
    return api
  }

  /** @param options of node:http */
  ask(path: string, options: object = {}, body?: string): Promise<ApiAnswer> {
    return new Promise((resolve, reject) => {
      const headers = { host: 'localhost' }
      const asking = request({ socketPath: this.socket, path, agent: false, headers, ...options }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (text += chunk))
        response.on('end', () => {
          resolve({ status: response.statusCode!, type: response.headers['content-type'] ?? '', text })
        })
        response.on('error', reject)
      })
      asking.on('error', reject)
      asking.end(body)
    })
  }

  /** In bytes: what counts against the limit of its unit. Pages of Node's own file are shared with others. */
  get memory(): number {
    return 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${this.child.pid}/status`, 'latin1'))![1])
  }

  async close(): Promise<void> {
    this.child.kill('SIGKILL')
    await until('it has ended', () => this.child.exitCode !== null || this.child.signalCode !== null)
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
