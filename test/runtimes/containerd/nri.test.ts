import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Creating, CriContainerd, noReporting, older, reporting, SECCOMP } from '../../support/cri.ts'
import { until } from '../../support/host.ts'
import { Machine } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const ASKS = { 'intercede.io/profile': 'nodes' }
/** With it, containerd creates no container of the Pod while the plugin is away. */
const REQUIRED = { 'required-plugins.noderesource.dev': '["intercede"]' }
const { runtimeDefault, unconfined } = SECCOMP

let machine: Machine
let containerd: CriContainerd

/** Starts a daemon and a containerd of its own. */
function withContainerd(installed: typeof reporting): void {
  beforeAll(async () => {
    machine = new Machine()
    containerd = await CriContainerd.start(machine, installed!)
    await serve()
  }, 60_000)
  afterAll(async () => {
    await containerd?.close()
    await machine.close()
  })
}

const registered = (): number => machine.log.filter(({ message }) => message === 'the NRI plugin is registered').length
const again = (before: number) => until('the plugin is registered', () => registered() > before, 20)
async function serve(): Promise<void> {
  const before = registered()
  await machine.serve(`profiles: { nodes: { mknod: true } }
nri: { socket: ${join(machine.directory, 'nri.sock')}, namespaces: { apps: [nodes] } }
`)
  await again(before)
}

/** Shows what becomes of a container that asks for a profile by annotation, unless it is said otherwise. */
const within = <T>(given: Partial<Creating>, show: (container: string) => T | Promise<T>): Promise<T> =>
  containerd.within({ namespace: 'apps', annotations: ASKS, ...given }, runtimeDefault, show)

const nothing = (): void => {}
const mknod = (container: string) => containerd.exec(container, 'mknod', `/tmp/n${Date.now()}`, 'c', '1', '3')

describe.skipIf(noReporting)(withReason('a Pod through CRI and NRI', noReporting), () => {
  withContainerd(reporting)

  test('is served if it names a profile, and otherwise left alone', async () => {
    const script = 'mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c "%F %t:%T" /tmp/n; mknod /tmp/m c 1 1'
    const run = (container: string) => containerd.exec(container, 'sh', '-c', script)
    const served = await within({}, run)
    expect(served.stdout).toBe('character special file 1:3\n')
    expect(served.stderr).toContain('mknod: /tmp/m: Operation not permitted')
    expect((await within({ annotations: {} }, run)).stderr).toContain('mknod: /tmp/n: Operation not permitted')
  })

  test('keeps every rule of RuntimeDefault for calls that are not trapped', async () => {
    const filter = (container: string) => containerd.filter(container)!
    const [with_, without] = [await within({}, filter), await within({ annotations: {} }, filter)]
    expect(with_).toMatchObject({ listenerPath: machine.socket, listenerMetadata: 'profile=nodes\n' })
    const { defaultAction, architectures } = without
    expect(with_).toMatchObject({ defaultAction, architectures })
    const ruled = (policy: typeof without, name: string) =>
      policy.syscalls.filter(({ names }) => names.includes(name)).map(({ names: _, ...rule }) => rule)
    const names = new Set(without.syscalls.flatMap((rule) => rule.names))
    expect(names.size).toBeGreaterThan(300)
    const changed = [...names].filter(
      (name) => JSON.stringify(ruled(with_, name)) !== JSON.stringify(ruled(without, name)),
    )
    expect(changed.sort()).toEqual(['mknod', 'mknodat'])
    expect(with_.syscalls.flatMap((rule) => rule.names).filter((name) => !names.has(name))).toEqual([])
    expect(await within({}, (container) => containerd.exec(container, 'unshare', '-U', 'true'))).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('Operation not permitted'),
    })
  })

  test('is rejected, with the reason, where its namespace may not use the profile, and in the host user namespace', async () => {
    await expect(within({ namespace: 'shop' }, nothing)).rejects.toThrow(
      /Intercede: Cannot give container "web" of Pod "shop\/pod-\d+" the profile "nodes": nri.namespaces does not allow it/,
    )
    await expect(within({ hostUsers: true }, nothing)).rejects.toThrow('set hostUsers: false')
    await expect(within({ annotations: { 'intercede.io/profile': 'other' } }, nothing)).rejects.toThrow(
      'no such profile',
    )
  })

  test('that is Unconfined is served too', async () => {
    const asking = { namespace: 'apps', annotations: ASKS }
    expect(await containerd.within(asking, unconfined, mknod)).toMatchObject({ status: 0 })
  })

  test('is not created if the plugin does not answer in time, and is served when it is back', async () => {
    const before = registered()
    process.kill(machine.pid, 'SIGSTOP')
    try {
      await expect(within({}, nothing)).rejects.toThrow(/validator plugin 90-intercede failed/)
    } finally {
      process.kill(machine.pid, 'SIGCONT')
    }
    await again(before)
    expect(await within({}, mknod)).toMatchObject({ status: 0 })
  })

  test('that requires the plugin is not created while the daemon is away', async () => {
    const required = { annotations: { ...ASKS, ...REQUIRED } }
    expect(await within(required, mknod)).toMatchObject({ status: 0 })
    await machine.stop()
    await expect(within(required, nothing)).rejects.toThrow('required plugin "intercede" not present')
    // Whoever does not require it gets a container without our rules: docs/runtimes/kubernetes.md says so.
    expect(await within({}, mknod)).toMatchObject({ status: 1 })
    await serve()
    expect(await within(required, mknod)).toMatchObject({ status: 0 })
  })

  test('that was there when the daemon ended gets its next container at the second attempt', async () => {
    const pod = await containerd.pod({ namespace: 'shop' })
    try {
      await machine.stop()
      await expect(containerd.container(pod, runtimeDefault)).rejects.toThrow(/validator plugin 90-intercede failed/)
      await containerd.container(pod, runtimeDefault)
      await serve()
    } finally {
      await containerd.remove(pod)
    }
  })

  test('is served on over a restart of containerd, and new Pods too', async () => {
    await within({}, async (container) => {
      const before = registered()
      await containerd.restart()
      await again(before)
      expect(await mknod(container)).toMatchObject({ status: 0 })
      expect(await within({}, mknod)).toMatchObject({ status: 0 })
    })
  })
})

for (const { why, ...rest } of older) {
  describe.skipIf(why)(withReason(`a Pod of ${rest.name}, which reports no policies`, why), () => {
    withContainerd({ why, ...rest })

    test('is rejected if it names a profile, and otherwise left alone, also after a restart of containerd', async () => {
      const before = registered()
      for (const isAgain of [false, true]) {
        if (isAgain) {
          await containerd.restart()
          await again(before)
        }
        await expect(within({}, nothing)).rejects.toThrow('the runtime is not containerd 2.3 or later')
        expect(await within({ annotations: {} }, mknod)).toMatchObject({ status: 1 })
      }
    })
  })
}
