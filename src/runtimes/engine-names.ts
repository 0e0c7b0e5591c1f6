import { constants, existsSync, openSync, readdirSync, statSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { orElse } from '../kernel/error.ts'
import { Fd } from '../kernel/fd.ts'
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

const DOCKER = { config: '/etc/docker/daemon.json', root: '/var/lib/docker' }

/**
 * Returns where Docker keeps its containers: in its data-root; with userns-remap, below a directory of the first ids
 * there, UID.GID. Only root may read that.
 */
function dockersRoots(): readonly string[] {
  const config: { readonly 'data-root'?: unknown } = orElse({}, () => Object(json(DOCKER.config)))
  const { 'data-root': given } = config
  const root = typeof given === 'string' && isAbsolute(given) ? given : DOCKER.root
  const remapped = orElse([], () => ['', ...readdirSync(root).filter((name) => /^\d+\.\d+$/.test(name))])
  return remapped.map((name) => join(root, name, 'containers'))
}

/**
 * Looks up names by a container's id and bundle: undefined if neither engine has it, or the state cannot be read.
 *
 * @param kept what `openState` has opened: the state from before the engine may have removed the container
 */
export type EngineNamesLookup = (id: string, bundle: string, kept?: readonly Fd[]) => EngineNames | undefined

/**
 * Makes a lookup in the state of podman or Docker, which do not pass names on. It reads each file once. Only root may.
 */
export function engineNamesLookup(): EngineNamesLookup {
  const stores = new Map<string, ReadonlyMap<string, Stored>>()
  let docker: readonly string[] | undefined
  const inPodman = (id: string, folder: string, files: readonly string[]): EngineNames | undefined => {
    const store = stores.get(folder) ?? storeIn(files)
    stores.set(folder, store)
    const stored = store.get(id)
    return stored && ofPodman(stored)
  }
  return (id, bundle, kept = []) =>
    orElse(undefined, () => {
      const before = kept.map(({ raw }) => `/proc/self/fd/${raw}`)
      if (isPodmans(bundle))
        return inPodman(id, storeOf(bundle), storesOf(bundle)) ?? inPodman(id, before.join(), before)
      docker ??= dockersRoots()
      const [config] = [...dockersOf(id, docker), ...before]
      return config === undefined ? undefined : ofDocker(config)
    })
}

/**
 * Makes what tells by a container's id and bundle which state its engine has now: another text once the engine may have
 * given it another name. It looks at each file once.
 */
export function engineStates(): (id: string, bundle: string) => string {
  const stores = new Map<string, string>()
  let docker: readonly string[] | undefined
  const stateOf = (path: string): string => {
    const found = orElse(undefined, () => statSync(path))
    return found ? `${found.ino} ${found.mtimeMs} ${found.size}` : ''
  }
  return (id, bundle) => {
    if (!isPodmans(bundle)) {
      docker ??= dockersRoots()
      return dockersOf(id, docker).map(stateOf).join()
    }
    const store = storeOf(bundle)
    const state = stores.get(store) ?? storesOf(bundle).map(stateOf).join()
    stores.set(store, state)
    return state
  }
}

/** Opens the files that have the names of a container now. Engines replace them, so they stay as they are. */
export const openState = (id: string, bundle: string): readonly Fd[] =>
  (isPodmans(bundle) ? storesOf(bundle) : dockersOf(id, dockersRoots())).flatMap((path) =>
    orElse([], () => [new Fd(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK))]),
  )

const isPodmans = (bundle: string): boolean => bundle.includes('-containers/')

interface Stored {
  readonly id: string
  readonly names?: readonly string[]
  readonly metadata?: string
}

/** The files of containers/storage; the second has containers that are removed when they end. */
const STORES = ['containers.json', 'volatile-containers.json']

/** The files are beside the containers' directories, which have the bundles. */
const storeOf = (bundle: string): string => dirname(dirname(bundle))
const storesOf = (bundle: string): readonly string[] => STORES.map((name) => join(storeOf(bundle), name))

function ofPodman(stored: Stored): EngineNames {
  const metadata = JSON.parse(stored.metadata ?? '{}') as Readonly<Record<string, unknown>>
  const { 'image-name': image, name } = metadata
  // `podman rename` leaves the first name in the metadata.
  return { ...text('name', stored.names?.[0] ?? name), ...text('image', image) }
}

const storeIn = (files: readonly string[]): ReadonlyMap<string, Stored> =>
  new Map(files.flatMap(storedIn).map((each) => [each.id, each]))

const storedIn = (path: string): readonly Stored[] =>
  existsSync(path) ? ((json(path) ?? []) as readonly Stored[]) : []

const dockersOf = (id: string, roots: readonly string[]): readonly string[] =>
  /^[0-9a-f]{64}$/.test(id)
    ? roots.map((root) => join(root, id, 'config.v2.json')).filter((path) => existsSync(path))
    : []

function ofDocker(path: string): EngineNames | undefined {
  const config = json(path) as Readonly<Record<string, unknown>>
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
