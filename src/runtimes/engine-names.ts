import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { orElse } from '../kernel/error.ts'
import { firstFitting } from '../shared/texts.ts'
import { readText } from './text-file.ts'

/** What an engine calls a container. Whoever starts it chooses these texts, which are cut if they are long. */
export interface EngineNames {
  readonly name?: string
  readonly image?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** In bytes: larger state files of an engine are not read for a name. */
const STATE_LIMIT = 16 * 1024 * 1024
/** In characters. */
const TEXT_LIMIT = 512
/** How many labels are kept, and how long the names and values may be together, in characters. */
const LABELS = { most: 16, length: 1024 }

const json = (path: string): unknown => JSON.parse(readText(path, { limit: STATE_LIMIT }))

const DOCKER = '/var/lib/docker/containers'

/** Looks up names by a container's id and bundle: undefined if neither engine has it, or the state cannot be read. */
export type EngineNamesLookup = (id: string, bundle: string) => EngineNames | undefined

/**
 * Makes a lookup in the state of podman or Docker, which do not pass names on. It reads each file once. Only root may.
 */
export function engineNamesLookup(): EngineNamesLookup {
  const stores = new Map<string, ReadonlyMap<string, Stored>>()
  let docker: ReadonlySet<string> | undefined
  return (id, bundle) =>
    orElse(undefined, () => {
      if (bundle.includes('-containers/')) return ofPodman(id, bundle, stores)
      docker ??= new Set(existsSync(DOCKER) ? readdirSync(DOCKER) : [])
      return docker.has(id) ? ofDocker(id) : undefined
    })
}

interface Stored {
  readonly id: string
  readonly names?: readonly string[]
  readonly metadata?: string
}

/** The files of containers/storage; the second has containers that are removed when they end. */
const STORES = ['containers.json', 'volatile-containers.json']

/** The files are beside the containers' directories, which have the bundles. */
function ofPodman(
  id: string,
  bundle: string,
  stores: Map<string, ReadonlyMap<string, Stored>>,
): EngineNames | undefined {
  const folder = dirname(dirname(bundle))
  const store = stores.get(folder) ?? storeIn(folder)
  stores.set(folder, store)
  const stored = store.get(id)
  if (!stored) return undefined
  const metadata = JSON.parse(stored.metadata ?? '{}') as Readonly<Record<string, unknown>>
  const { 'image-name': image, name = stored.names?.[0] } = metadata
  return { ...text('name', name), ...text('image', image) }
}

const storeIn = (folder: string): ReadonlyMap<string, Stored> =>
  new Map(STORES.flatMap((name) => storedIn(join(folder, name))).map((each) => [each.id, each]))

const storedIn = (path: string): readonly Stored[] =>
  existsSync(path) ? ((json(path) ?? []) as readonly Stored[]) : []

function ofDocker(id: string): EngineNames | undefined {
  if (!/^[0-9a-f]{64}$/.test(id)) return undefined
  const config = json(`${DOCKER}/${id}/config.v2.json`) as Readonly<Record<string, unknown>>
  const { Name: name, Config: inner } = config
  const { Image: image, Labels: labels } = (inner ?? {}) as Readonly<Record<string, unknown>>
  return {
    ...text('name', typeof name === 'string' ? name.replace(/^\//, '') : name),
    ...text('image', image),
    ...labelsIn(labels),
  }
}

const text = (key: string, value: unknown): object =>
  typeof value === 'string' && value !== '' ? { [key]: value.slice(0, TEXT_LIMIT) } : {}

/** Returns the first labels, as many as fit. */
function labelsIn(given: unknown): Pick<EngineNames, 'labels'> {
  if (typeof given !== 'object' || given === null) return {}
  const all = Object.entries(given).map(([name, value]) => [name, `${value}`] as const)
  const labels = firstFitting(all.slice(0, LABELS.most), LABELS.length, ([name, value]) => name.length + value.length)
  return labels.length === 0 ? {} : { labels: Object.fromEntries(labels) }
}
