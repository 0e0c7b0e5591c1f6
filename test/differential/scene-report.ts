import { walkOf } from './path.ts'
import { shorten } from './report.ts'
import { capSets, mountOf, type Scene } from './scene.ts'

/** What a case is counted under for its scene. */
export const sceneFeatures = (scene: Scene): readonly string[] => [
  `start ${scene.start}`,
  `way ${scene.way}${scene.way === 'linkChain' ? ` ${scene.links}` : ''}`,
  `last ${scene.last.kind}${'target' in scene.last ? ` ${scene.last.target}` : ''}`,
  `length ${scene.length || 'as it is'}`,
  `pointer ${scene.pointer}`,
  `file system ${scene.fileSystem}`,
  `mount ${mountOf(scene)?.kind ?? 'none'}`,
  `caller ${scene.caller.uid} with ${scene.caller.caps}`,
]

/** A scene in a few lines. @param call what is done at the end of the path */
export function describeScene(scene: Scene, call: string): readonly string[] {
  const { caller } = scene
  const walk = walkOf(scene, '/TREE')
  const chain = scene.directories.map(({ user, group, mode, ...more }) => {
    const extras = Object.entries(more).filter(([, value]) => value)
    return `${user}:${group} ${mode.toString(8)}${extras.map(([key, value]) => ` ${key}=${value}`).join('')}`
  })
  const mount = mountOf(scene)
  return [
    `path ${shorten(JSON.stringify(walk.path.toString('latin1')))} dirfd ${walk.dirfd} ${call}`,
    `root ${walk.root ?? '/'} cwd ${walk.cwd} fd ${walk.fd ?? '-'} pointer ${scene.pointer}`,
    `caller ${caller.uid}:${caller.gid} [${caller.groups}] caps ${caller.caps} (${capSets[caller.caps].toString(16)}) umask ${caller.umask.toString(8)}`,
    `${scene.fileSystem}: ${chain.join(' / ')}${mount ? `; ${mount.kind} over directory ${mount.over + 1}` : ''}`,
    ...walk.extras.slice(0, 3).map(({ path, link }) => `there: ${path}${link === undefined ? '' : ` -> ${link}`}`),
  ]
}
