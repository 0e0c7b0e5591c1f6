import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Done, execute, until } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../../support/podman.ts'

let machine: Machine
let podman: Podman
let profile: string
const config = (): string => `history: { path: ${join(machine.directory, 'state')} }`
const intercede = (...args: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, args[0]!, '--feed', join(machine.directory, 'feed.sock'), ...args.slice(1)])

beforeAll(async () => {
  machine = new Machine()
  await machine.serve(config())
  podman = await Podman.start(machine)
  profile = await writeProfile(machine, 'profile.json', [
    ...['-c', 'mknod', '--runtime', 'podman', '--base', '/usr/share/containers/seccomp.json'],
  ])
})
afterAll(async () => {
  await podman.close()
  await machine.close()
})

/** Tries until history has it, since the daemon learns of the end of a container after podman. */
async function explained(word: readonly string[], pattern: RegExp): Promise<void> {
  let said = ''
  const isSaid = async (): Promise<boolean> => {
    said = (await intercede('explain', ...word)).stdout
    return pattern.test(said)
  }
  await until(`explain says ${pattern}`, isSaid, 30).catch((error: Error) => {
    throw new Error(`${error.message}, but: ${said}`)
  })
}

test('a run that failed is explained by its name, after it was removed and after a restart', {
  timeout: 120_000,
}, async () => {
  const options = ['--userns=auto', '--cap-add=MKNOD', `--security-opt=seccomp=${profile}`, '--name', 'failing']
  const { status } = await podman.run('run', ...USUAL, ...options, 'test', 'mknod', '/tmp/tun', 'c', '10', '200')
  expect(status).toBe(1)
  expect((await podman.run('ps', '--all', '--quiet')).stdout).toBe('')
  const wanted = new RegExp(
    [
      '^[0-9a-f]{12} \\(failing\\), ended \\d+[sm] ago: mknod(at)?\\(.*, S_IFCHR\\|0666, 10:200\\) {2}by mknod, pid 1',
      ' {2}left to the kernel, once \\d+[sm] ago \\[deviceNotAllowed\\]',
      ' {2}why: {2}the device 10:200 is not allowed',
      ' {2}what to do: {2}unless it is allowed by now: if it is harmless, add c:10:200 to .*',
      ' {2}for good: {2}.*mknod.devices=?:? ?c:10:200.*',
    ].join('\n'),
  )
  await explained(['failing'], wanted)
  await machine.stop('SIGKILL')
  await machine.serve(config())
  await explained(['failing'], wanted)
  const [row] = JSON.parse((await intercede('explain', 'failing', '--format', 'json')).stdout)
  expect(row).toMatchObject({ name: 'failing', image: 'localhost/test:latest', first: expect.stringMatching(/Z$/) })
})

test('each of many containers that end at once, and are removed, is known by its name', {
  timeout: 180_000,
}, async () => {
  const options = ['--userns=auto', '--cap-add=MKNOD', `--security-opt=seccomp=${profile}`]
  const names = Array.from({ length: 12 }, (_, index) => `quick-${index}`)
  const started = async (name: string): Promise<unknown> =>
    podman.run('run', ...USUAL, ...options, '--name', name, 'test', 'mknod', '/tmp/tun', 'c', '10', '200')
  for (const name of names.slice(0, 6)) await started(name)
  await Promise.all(names.slice(6).map(started))
  let known: readonly string[] = []
  const areKnown = async (): Promise<boolean> => {
    const { stdout } = await intercede('ps', '--all', '--format', '{name}')
    known = stdout.split('\n').filter((name) => name.startsWith('quick-'))
    return known.length === names.length
  }
  await until('all are known', areKnown, 20).catch((error: Error) => {
    throw new Error(`${error.message}, but ${known.length}: ${known}`)
  })
})

test('a build that failed is explained after its end', { timeout: 120_000 }, async () => {
  const file = join(machine.directory, 'Containerfile')
  writeFileSync(file, 'FROM test\nRUN mknod /tmp/tun c 10 200\n')
  // No limits that this machine may not raise.
  const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024']
  const users = ['--userns-uid-map-user', 'containers', '--userns-gid-map-group', 'containers']
  const options = ['--rm', '--no-cache', '--network=none', '--cap-add=MKNOD', `--security-opt=seccomp=${profile}`]
  const { status, stderr } = await podman.run('build', ...options, ...users, ...limits, '--file', file, machine.shared)
  expect(status).toBe(1)
  expect(stderr).toContain('Operation not permitted')
  await explained([], /^buildah-buildah\d+, ended \d+[sm] ago: mknod.*10:200\)/)
  const { stdout } = await intercede('ps', '--all', '--format', '{id} {state}')
  expect(stdout).toMatch(/^buildah-buildah\d+ ended$/m)
})
