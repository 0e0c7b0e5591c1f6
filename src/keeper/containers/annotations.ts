import { PREFIX } from '../../policy/key.ts'
import { PROFILE } from '../../policy/key-value-lines.ts'
import { keyNames } from '../../policy/keys.ts'
import { VALUE_LIMIT } from '../../policy/resolve.ts'
import type { Handover } from '../../runtimes/handover.ts'
import { shortened } from '../../shared/texts.ts'

/**
 * Annotations of CRI-O, containerd and nerdctl with the engine's name of a container, which the runtime passes on.
 * Those of CRI-O come first: it passes on all that a Pod's author writes, containerd only what its configuration lists.
 */
const SAID = {
  name: ['io.kubernetes.container.name', 'io.kubernetes.cri.container-name', 'nerdctl/name'],
  image: ['io.kubernetes.cri-o.ImageName', 'io.kubernetes.cri.image-name'],
  pod: ['io.kubernetes.pod.name', 'io.kubernetes.cri.sandbox-name'],
  namespace: ['io.kubernetes.pod.namespace', 'io.kubernetes.cri.sandbox-namespace'],
} as const

/** In characters: names of Kubernetes have up to 253, and images an address before their name. */
const LIMIT = 512

export type AnnotatedNames = { readonly [Name in keyof typeof SAID]?: string }

/** Returns the names in the annotations of a container; they are untrusted, and cut where they are too long. */
export function annotatedNames(annotations: Readonly<Record<string, string>>): AnnotatedNames {
  const found = Object.entries(SAID).flatMap(([what, keys]) => {
    const key = keys.find((each) => Object.hasOwn(annotations, each))
    return key === undefined ? [] : [[what, annotations[key]!.slice(0, LIMIT)] as const]
  })
  return Object.fromEntries(found)
}

const OF_NAMES: ReadonlySet<string> = new Set(Object.values(SAID).flat())
const OF_POLICY: ReadonlySet<string> = new Set([PROFILE, ...keyNames.map((name) => `${PREFIX}${name}`)])
/** The most annotations that look like ours and are not: they are kept to tell their author. */
const UNKNOWN_LIMIT = 16

/**
 * @returns a copy, because a piece of a long text would keep the whole text in memory
 */
const beginning = (text: string, limit: number): string =>
  text.length <= limit ? text : Buffer.from(text.slice(0, limit)).toString()

/**
 * Drops annotations that nothing reads: their author chooses their number and length, and the daemon keeps them for the
 * life of the container. A value that is too long for a key stays too long, so that it is still invalid.
 */
export function withoutForeign(handover: Handover): Handover {
  const all = Object.entries(handover.annotations)
  const names = all.flatMap(([name, value]) => (OF_NAMES.has(name) ? [[name, beginning(value, LIMIT)]] : []))
  const policy = all.flatMap(([name, value]) =>
    OF_POLICY.has(name) ? [[name, beginning(value, VALUE_LIMIT + 1)]] : [],
  )
  const unknown = all.filter(([name]) => name.startsWith(PREFIX) && !OF_POLICY.has(name))
  const shown = unknown.slice(0, UNKNOWN_LIMIT).map((each) => each.map(shortened))
  const more = unknown.length - shown.length
  return {
    ...handover,
    annotations: Object.fromEntries([...names, ...policy, ...shown]),
    ...(more > 0 ? { unknownAnnotations: more } : {}),
  }
}
