// Runs the DaemonSet of deploy/kubernetes/ by podman, on a host that stands for a node: for tests of its image.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

export const KUBERNETES = fileURLToPath(new URL('../../deploy/kubernetes/', import.meta.url))

interface Container {
  readonly name: string
  readonly command: readonly string[]
  readonly securityContext?: {
    readonly privileged?: boolean
    readonly capabilities?: { readonly add: readonly string[] }
  }
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[]
}
interface PodSpec {
  readonly hostPID?: boolean
  readonly initContainers: readonly Container[]
  readonly containers: readonly Container[]
  readonly volumes: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[]
}

const spec = (): PodSpec => parse(readFileSync(join(KUBERNETES, 'daemonset.yaml'), 'utf8')).spec.template.spec

/** Returns the command of a container of the Pod. */
export const commandOf = (container: string): readonly string[] =>
  [...spec().initContainers, ...spec().containers].find(({ name }) => name === container)!.command

/** Returns the command that runs before all others. */
export const firstCommand = (): readonly string[] => spec().initContainers[0]!.command

/** Returns the script that makes what the kubelet makes: directories of the host, and the files of the ConfigMap in `directory`. */
export function kubelet(directory: string): string {
  const { data } = parse(readFileSync(join(KUBERNETES, 'configuration.yaml'), 'utf8'))
  const files = Object.entries(data as Record<string, string>)
  const directories = spec().volumes.map(({ hostPath }) => hostPath?.path ?? directory)
  return [
    `mkdir -p ${directories.join(' ')}`,
    ...files.map(([name, text]) => `cat >${directory}/${name} <<'END'\n${text}END`),
    // The link that another version of the ConfigMap changes.
    `ln -s first ${directory}/..data`,
  ].join('\n')
}

type Words = readonly (readonly string[])[]

/** Returns the words of `podman run` for each container of the Pod, in their order. @param configuration that of `kubelet` */
export function podmanRuns(
  image: string,
  configuration: string,
): { readonly initContainers: Words; readonly containers: Words } {
  const { hostPID, volumes, initContainers, containers } = spec()
  const places = new Map(volumes.map(({ name, hostPath }) => [name, hostPath?.path ?? configuration]))
  const wordsOf = ({ name, command, securityContext, volumeMounts = [] }: Container): readonly string[] => [
    ...['--name', name, ...(hostPID ? ['--pid=host'] : []), ...(securityContext?.privileged ? ['--privileged'] : [])],
    ...(securityContext?.capabilities?.add ?? []).map((name) => `--cap-add=${name}`),
    ...volumeMounts.flatMap((mount) => ['--volume', `${places.get(mount.name)}:${mount.mountPath}`]),
    ...[image, ...command],
  ]
  return { initContainers: initContainers.map(wordsOf), containers: containers.map(wordsOf) }
}
