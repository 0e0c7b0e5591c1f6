import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { fixture } from '../../support/fixtures.ts'
import { execute, Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

type Line = Readonly<Record<string, unknown>>

let host: Host
let api: Api
/** All that has happened. */
let all: readonly Line[]

const linesOf = (text: string): readonly Line[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

async function events(...args: readonly string[]): Promise<readonly Line[]> {
  const words = [CLI, 'events', '--feed', host.feedSocket, '--no-follow', '--format', 'json', ...args]
  return linesOf((await execute(process.execPath, words)).stdout)
}
const overHttp = async (query: string): Promise<readonly Line[]> =>
  linesOf((await api.ask(`/v1/events?follow=false&${query}`)).text)

beforeAll(async () => {
  host = await Host.start()
  api = await Api.start(host.feedSocket)
  for (const [index, name] of ['n1', 'n2', 'n3'].entries()) {
    const call = `${fixture('caller')} mknod ${join(host.directory, name)} 020666 1 3; sleep 0.05`
    await host.run([], ['sh', '-c', call])
    // It may end later than its first process, and in the millisecond of its call: each shall come after the other.
    await until('its end is said', async () => {
      all = await events()
      return all.filter(({ type }) => type === 'ended').length === index + 1
    })
  }
})
afterAll(async () => {
  await api?.close()
  host?.close()
})

test('after each line that has a cursor come all later lines, those of the daemon too, and no other', async () => {
  const each = ['registered', 'call', 'ended']
  expect(all.map(({ type }) => type)).toEqual([...each, ...each, ...each])
  for (const [index, { cursor }] of all.entries()) {
    if (cursor === undefined) continue
    expect(await events('--after', String(cursor))).toEqual(all.slice(index + 1))
    expect(await overHttp(`after=${cursor}`)).toEqual(all.slice(index + 1))
  }
  // Before the first call there is nothing to go on after.
  expect(all.filter(({ cursor }) => cursor === undefined)).toEqual([all[0]])
})

test.each([0, 1, 2, 3, 4, 8, 9, 100])(
  'of what is there --tail %i shows the last lines, of calls or not',
  async (tail) => {
    const last = tail === 0 ? [] : all.slice(-tail)
    expect(await events('--tail', `${tail}`)).toEqual(last)
    expect(await overHttp(`tail=${tail}`)).toEqual(last)
  },
)

test.each([
  { of: 'another daemon', cursor: () => 'ffffffffffffffff-99', says: /^the cursor belongs to another daemon: / },
  {
    of: 'a call that has not been',
    cursor: () => `${String(all[1]!.cursor).slice(0, 16)}-99999999`,
    says: /^there is no such call yet: /,
  },
])(
  'after a cursor of $of comes all that is there, once it is said that more may be missing',
  async ({ cursor, says }) => {
    for (const lines of [await events('--after', cursor()), await overHttp(`after=${cursor()}`)]) {
      expect(lines[0]).toMatchObject({ type: 'lost', message: expect.stringMatching(says) })
      expect(lines.slice(1)).toEqual(all)
    }
  },
)

test('a tail counts after the filter and the container', async () => {
  const of = (...types: readonly unknown[]) => all.filter(({ type }) => types.includes(type))
  expect(await events('--tail', '2', '--filter', 'type=registered')).toEqual(of('registered').slice(-2))
  expect(await events('--tail', '0', '--filter', 'type=registered')).toEqual([])
  const [{ container } = {}] = of('registered')
  const own = all.filter((line) => line.container === container)
  expect(own.map(({ type }) => type)).toEqual(['registered', 'call', 'ended'])
  for (const tail of [1, 2, 3, 10]) {
    expect(await events(String(container), '--tail', `${tail}`)).toEqual(own.slice(-tail))
    expect(await overHttp(`container=${String(container)}&tail=${tail}`)).toEqual(own.slice(-tail))
  }
  expect(await events(String(container), '--since', '1h', '--tail', '2')).toEqual(own.slice(-2))
})

test.each([
  ['type=reloadordered', 'no type is "reloadordered": there is none of that name (did you mean "reloadOrdered"?)'],
  ['type!=nosuch', 'no type is "nosuch": there is none of that name'],
  ['syscall=mkond', 'no syscall is "mkond": there is none of that name (did you mean "mknod"?)'],
  ['verdict=lost', 'no verdict is "lost": it may be done, left, error, gone'],
])('--filter %s is refused, because no event has that', async (filter, why) => {
  const done = await execute(process.execPath, [
    CLI,
    'events',
    '--no-follow',
    '--feed',
    host.feedSocket,
    '--filter',
    filter,
  ])
  expect(done).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining(`"${filter}": ${why}; it is`) })
})

test('--filter takes all types and numbers of calls', async () => {
  const types = ['call', 'refusals', 'lost', 'daemon', 'stopped', 'historyLost', 'fault', 'program']
  for (const filter of [...types.map((type) => `type!=${type}`), 'syscall!=syscall_333', 'syscall!=333'])
    expect((await events('--filter', filter)).length, filter).toBeGreaterThan(0)
})

test('explain says that neither a container nor a reason has the name', async () => {
  const done = await execute(process.execPath, [CLI, 'explain', 'devicenotallowed', '--feed', host.feedSocket])
  const says = 'none has that name (did you mean "deviceNotAllowed"?)'
  expect(done).toMatchObject({
    status: 1,
    stderr: `intercede: Cannot find container or reason "devicenotallowed": ${says}\n`,
  })
})

test.each([
  ['ps', '--all'],
  ['inspect', 'ID'],
  ['events', '--no-follow'],
  ['top', '--once', '--interval', '0.1'],
  ['explain'],
  ['status'],
])('%s --json prints the same as --format json', async (...words) => {
  const args = words.map((word) => (word === 'ID' ? String(all[0]!.container) : word))
  const [short, long] = await Promise.all(
    [['--json'], ['--format', 'json']].map((format) =>
      execute(process.execPath, [CLI, ...args, '--feed', host.feedSocket, ...format]),
    ),
  )
  expect(short).toEqual({ ...long, status: 0, stdout: expect.stringMatching(/^[[{]/) })
})

const shell = (line: string) =>
  execute('timeout', ['-k', '1', '20', 'bash', '-o', 'pipefail', '-c', line, process.execPath, CLI, host.feedSocket])

test.each(['events', 'top --interval 0.1'])(
  '%s ends at once when nobody reads it any more, as by SIGPIPE, and at Ctrl-C, without a word',
  async (command) => {
    expect(await shell(`"$0" "$1" ${command} --feed "$2" | head -1 >/dev/null`)).toMatchObject({
      status: 141,
      stderr: '',
    })
    // It ignores SIGINT if the shell starts it in the background without job control.
    const line = `timeout --preserve-status -s INT 1 "$0" "$1" ${command} --feed "$2" >/dev/null`
    expect(await shell(line)).toMatchObject({ status: 130, stderr: '' })
  },
)
