// Runs a script in a container of podman with all keys.

import { copyFileSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Machine } from '../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../support/podman.ts'

interface World {
  readonly keys: readonly string[]
  readonly devices: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** What the container sees, with the owners that it has. */
  readonly directory: string
}

/** Programs and libraries are the host's, all of which Debian has below /usr. */
function useHost(rootfs: string): void {
  rmSync(join(rootfs, 'bin'), { recursive: true })
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(rootfs, name))
  mkdirSync(join(rootfs, 'usr'))
  for (const name of ['passwd', 'group', 'ld.so.cache']) copyFileSync(`/etc/${name}`, join(rootfs, 'etc', name))
}

/** The /dev of a machine has no disks. */
const withDevices = (devices: readonly string[]): string =>
  [...devices.map((device) => `mknod ${device} b 7 ${device.replaceAll(/\D/g, '')}`), 'exec "$@"'].join('\n')

/** @returns what the command printed @throws {Error} if it, or its container, failed */
export async function runInPodman(
  { keys, devices, env, directory }: World,
  command: readonly string[],
): Promise<string> {
  const machine = new Machine()
  useHost(machine.rootfs)
  const podman = await Podman.start(machine)
  try {
    await machine.serve()
    const profile = await writeProfile(
      machine,
      'profile.json',
      keys.flatMap((key) => ['-c', key]),
    )
    const words = podman.command(
      ...['run', ...USUAL, '--userns=auto:size=65536', '--cap-add=all', `--security-opt=seccomp=${profile}`],
      ...['--security-opt=unmask=ALL', '-v', '/usr:/usr:ro', '-v', '/etc/alternatives:/etc/alternatives:ro'],
      ...['-v', `${directory}:${directory}:idmap`, ...devices.flatMap((device) => ['--device', device])],
      ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
      ...['test', ...command],
    )
    const { status, stdout, stderr } = await machine.run('sh', '-c', withDevices(devices), 'sh', ...words)
    if (status !== 0) throw new Error(`Cannot run the cases (podman): ${stderr}`)
    return stdout
  } finally {
    await podman.close()
    await machine.close()
  }
}
