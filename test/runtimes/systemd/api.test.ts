import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { missing } from '../../support/fixtures.ts'
import { type Done, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { Load } from '../../support/restart-world.ts'
import { ServiceHost } from '../../support/service-host.ts'
import { withReason } from '../../support/skipped.ts'
import { rootOnly } from '../../support/user.ts'

const DEPLOYED = fileURLToPath(new URL('../../../deploy/prometheus', import.meta.url))
const VIEW = '/run/intercede/view.sock'
const metadata = 'security.syscalls.intercept.mknod=true\nsecurity.syscalls.intercept.setxattr=true'

const cannot = missing('systemctl', 'curl', 'prometheus', 'promtool') ?? rootOnly()

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { readonly port: number }
      server.close(() => resolve(port))
    })
  })

interface Rule {
  readonly alert: string
  readonly expr: string
}
const rules = (parse(readFileSync(join(DEPLOYED, 'intercede.rules.yml'), 'utf8')) as { groups: { rules: Rule[] }[] })
  .groups[0]!.rules

interface Panel {
  readonly title: string
  readonly targets: readonly { readonly expr: string }[]
}
const { panels } = JSON.parse(readFileSync(join(DEPLOYED, 'grafana.json'), 'utf8')) as {
  readonly panels: readonly Panel[]
}

describe.skipIf(cannot)(withReason('intercede api as a service', cannot), { timeout: 180_000 }, () => {
  let host: ServiceHost
  let load: Load
  let port: number
  const curl = (path: string, ...words: readonly string[]): Promise<Done> =>
    host.run(...words, 'curl', '-sS', '--max-time', '20', '--unix-socket', VIEW, `http://localhost${path}`)
  const state = async (name: string): Promise<string> =>
    (await host.run('systemctl', 'show', '--value', '-p', name, 'intercede-api.service')).stdout.trim()
  const status = (pid: string): Promise<Done> => host.run('cat', `/proc/${pid}/status`)

  beforeAll(async () => {
    port = await freePort()
    host = await ServiceHost.start({ apiPort: port })
    await host.run(
      'sh',
      '-c',
      'mkdir -p /etc/sysusers.d && cp "$0" /etc/sysusers.d/intercede.conf && systemd-sysusers',
      SYSUSERS,
    )
    expect((await host.run('systemctl', 'start', 'intercede-api.socket')).stderr).toBe('')
    load = new Load(host, 'load', { within: host.within, hasGroups: false, metadata, isSingle: false })
    await until('the service runs', () => host.log.some(({ message }) => message === 'serving'), 60)
  }, 120_000)
  afterAll(async () => {
    await load?.kill()
    await host?.close()
  })

  test('it is started by who asks, as a user of its own without any capability', async () => {
    expect(await state('MainPID')).toBe('0')
    const { stdout, stderr } = await curl('/v1/containers')
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)[0]).toMatchObject({ state: 'served' })
    const said = (await status(await state('MainPID'))).stdout
    expect(said).toMatch(/^Uid:\s+(6[1-5]\d{3})\s+\1\s+\1\s+\1$/m)
    const group = (await host.run('getent', 'group', 'intercede')).stdout.split(':')[2]
    expect(said).toMatch(new RegExp(`^Gid:\\s+${group}\\s`, 'm'))
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'])
      expect(said).toMatch(new RegExp(`^Cap${set}:\\s+0{16}$`, 'm'))
    expect(said).toMatch(/^NoNewPrivs:\s+1$/m)
    expect(said).toMatch(/^Seccomp:\s+2$/m)
  })

  test('members of the group ask it, and read what the daemon shows; others are refused', async () => {
    const as = (...words: readonly string[]) => ['setpriv', '--reuid=65534', ...words]
    const member = as('--regid=65534', '--init-groups', '--groups=intercede').filter((word) => word !== '--init-groups')
    expect(JSON.parse((await curl('/v1/status', ...member)).stdout)).toMatchObject({ containers: 1 })
    const listed = await host.run(...member, process.execPath, CLI, 'ps', '--format', 'json')
    expect(JSON.parse(listed.stdout)).toHaveLength(1)
    const other = as('--regid=65534', '--clear-groups')
    expect((await curl('/v1/status', ...other)).status).not.toBe(0)
    expect((await host.run(...other, process.execPath, CLI, 'ps')).stderr).toMatch(/only root and members of the group/)
  })

  test('at a port it answers for metrics only', async () => {
    const at = async (path: string): Promise<number> => (await fetch(`http://localhost:${port}${path}`)).status
    expect(await at('/metrics')).toBe(200)
    for (const path of ['/v1/containers', '/v1/events', '/openapi.json', '/metrics?x=1'])
      expect(await at(path)).toBe(403)
  })

  test('its end, by whatever, is made good by the next who asks', async () => {
    const before = await state('MainPID')
    expect((await host.run('systemctl', 'kill', '--signal=KILL', 'intercede-api.service')).status).toBe(0)
    await until('it has ended', async () => (await state('MainPID')) === '0')
    expect(JSON.parse((await curl('/v1/status')).stdout)).toMatchObject({ containers: 1 })
    expect(await state('MainPID')).not.toBe(before)
  })

  describe('a Prometheus', () => {
    let directory: string
    let prometheus: ChildProcess
    let address: string

    const ask = async (path: string): Promise<{ readonly data: { readonly result?: readonly Series[] } & Rest }> =>
      (await (await fetch(`${address}${path}`)).json()) as never
    const query = async (expression: string): Promise<readonly Series[]> =>
      (await ask(`/api/v1/query?query=${encodeURIComponent(expression)}`)).data.result ?? []
    interface Series {
      readonly metric: Readonly<Record<string, string>>
      readonly value: readonly [number, string]
    }
    interface Rest {
      readonly groups?: readonly { readonly rules: readonly { readonly health: string; readonly name: string }[] }[]
      readonly activeTargets?: readonly { readonly health: string; readonly lastError: string }[]
    }

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'intercede-prometheus-'))
      cpSync(DEPLOYED, directory, { recursive: true })
      const config = readFileSync(join(directory, 'prometheus.yml'), 'utf8')
      const quick = 'global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n'
      writeFileSync(join(directory, 'prometheus.yml'), quick + config.replace('localhost:9470', `localhost:${port}`))
      const own = await freePort()
      address = `http://127.0.0.1:${own}`
      const words = [`--config.file=${directory}/prometheus.yml`, `--storage.tsdb.path=${directory}/data`]
      prometheus = spawn('prometheus', [...words, `--web.listen-address=127.0.0.1:${own}`], { stdio: 'ignore' })
      await until(
        'it has asked us twice',
        async () => Number((await query('count_over_time(intercede_listeners[1m])').catch(() => []))[0]?.value[1]) > 2,
        60,
      )
    }, 90_000)
    afterAll(async () => {
      prometheus?.kill('SIGKILL')
      await until('it has ended', () => prometheus.exitCode !== null || prometheus.signalCode !== null)
      rmSync(directory, { recursive: true, force: true })
    })

    test('finds the rules and the answers right', async () => {
      const checked = spawnSync('promtool', ['check', 'rules', join(DEPLOYED, 'intercede.rules.yml')])
      expect(checked.status).toBe(0)
      const [target] = (await ask('/api/v1/targets')).data.activeTargets!
      expect(target).toMatchObject({ health: 'up', lastError: '' })
      const text = (await curl('/metrics')).stdout
      const metrics = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
      expect({ status: metrics.status, stderr: metrics.stderr }).toEqual({ status: 0, stderr: '' })
      const loaded = (await ask('/api/v1/rules')).data.groups!.flatMap((group) => group.rules)
      expect(loaded.map(({ name }) => name)).toEqual(rules.map(({ alert }) => alert))
      await until('the rules were evaluated', async () => {
        const all = (await ask('/api/v1/rules')).data.groups!.flatMap((group) => group.rules)
        return all.every(({ health }) => health === 'ok')
      })
    })

    test.each(rules)('what $alert asks has an answer, which is a number', async ({ expr }) => {
      const asked = expr.replace(/ [<>] [\d.e]+$/, '')
      expect(asked).not.toBe(expr)
      await until('there is one', async () => (await query(asked)).length > 0)
      for (const { value } of await query(asked)) expect(Number.isFinite(Number(value[1]))).toBe(true)
    })

    test.each(panels)('the panel "$title" shows what there is', async ({ targets }) => {
      for (const { expr } of targets) {
        const asked = expr.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m')
        await until(`${asked} has an answer`, async () => (await query(asked)).length > 0)
      }
    })

    test('an end of the engine is counted, and an alert is about it', async () => {
      const engine = Number((await query('intercede_process_threads{process="engine"}')).length)
      expect(engine).toBe(1)
      const { engine: pid } = JSON.parse((await curl('/v1/status')).stdout) as { readonly engine: number }
      expect((await host.run('kill', '-KILL', String(pid))).status).toBe(0)
      const killed = 'intercede_engine_restarts_total{cause="killed"}'
      await until('it is counted', async () => Number((await query(killed))[0]?.value[1]) > 0, 60)
      await until('it is an increase', async () => Number((await query(`increase(${killed}[1m])`))[0]?.value[1]) > 0)
    })
  })

  test('each alert has a section of the runbooks, and each section an alert', () => {
    const sections = [...readFileSync(join(DEPLOYED, 'runbooks.md'), 'utf8').matchAll(/^## (\w+)$/gm)]
    expect(sections.map(([, name]) => name)).toEqual(rules.map(({ alert }) => alert))
    for (const { alert, annotations } of rules as (Rule & { readonly annotations: { readonly runbook: string } })[])
      expect(annotations.runbook).toBe(`runbooks.md#${alert.toLowerCase()}`)
  })
})

const SYSUSERS = fileURLToPath(new URL('../../../deploy/systemd/sysusers.conf', import.meta.url))
