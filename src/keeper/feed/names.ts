/** What engines call a container, where the runtime passes it on: annotations of containerd, CRI-O and nerdctl. */
const SAID = {
  name: ['io.kubernetes.cri.container-name', 'io.kubernetes.container.name', 'nerdctl/name'],
  image: ['io.kubernetes.cri.image-name', 'io.kubernetes.cri-o.ImageName'],
  pod: ['io.kubernetes.cri.sandbox-name', 'io.kubernetes.pod.name'],
  namespace: ['io.kubernetes.cri.sandbox-namespace', 'io.kubernetes.pod.namespace'],
} as const

/** In characters: names of Kubernetes have up to 253, and images an address before their name. */
const LIMIT = 512

export interface SaidNames {
  readonly name?: string
  readonly image?: string
  readonly pod?: string
  readonly namespace?: string
}

/** Returns the names in the annotations of a container; they are untrusted, and cut where they are too long. */
export function saidNames(annotations: Readonly<Record<string, string>>): SaidNames {
  const found = Object.entries(SAID).flatMap(([what, keys]) => {
    const key = keys.find((each) => Object.hasOwn(annotations, each))
    return key === undefined ? [] : [[what, annotations[key]!.slice(0, LIMIT)] as const]
  })
  return Object.fromEntries(found)
}
