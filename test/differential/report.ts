import type { Mismatch } from './compare.ts'
import type { Findings } from './experiment.ts'
import type { Trial } from './mknod.ts'
import { walkOf } from './path.ts'
import { capSets, mountOf } from './scene.ts'

type Tally = Map<string, [ours: number, native: number]>

function add(tally: Tally, result: string, side: 0 | 1): void {
  const counts = tally.get(result) ?? [0, 0]
  counts[side]++
  tally.set(result, counts)
}

export function tallyOf(trials: readonly Trial[]): Tally {
  const tally: Tally = new Map()
  for (const { ours, natives } of trials) {
    add(tally, ours.result, 0)
    add(tally, natives.member.result, 1)
  }
  return tally
}

/** What a case is counted under. */
function features({ case: { scene, substitute } }: Trial): readonly string[] {
  return [
    `start ${scene.start}`,
    `way ${scene.way}${scene.way === 'linkChain' ? ` ${scene.links}` : ''}`,
    `last ${scene.last.kind}${'target' in scene.last ? ` ${scene.last.target}` : ''}`,
    `length ${scene.length || 'as it is'}`,
    `pointer ${scene.pointer}`,
    `file system ${scene.fileSystem}`,
    `mount ${mountOf(scene)?.kind ?? 'none'}`,
    `caller ${scene.caller.uid} with ${scene.caller.caps}`,
    `native ${substitute}`,
  ]
}

const cells = (tally: Tally): string =>
  [...tally]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([result, [ours, native]]) => `${result} ${ours}/${native}`)
    .join(', ')

/** Counts as "ours/native", for each result and each feature of the cases. */
export function table({ trials }: Findings): string {
  const groups = new Map<string, Trial[]>()
  for (const trial of trials)
    for (const feature of features(trial)) groups.set(feature, [...(groups.get(feature) ?? []), trial])
  const rows = [...groups].sort(([a], [b]) => (a < b ? -1 : 1))
  const width = Math.max(...rows.map(([feature]) => feature.length))
  return [
    `${'all'.padEnd(width)}  ${cells(tallyOf(trials))}`,
    ...rows.map(([feature, some]) => `${feature.padEnd(width)}  ${cells(tallyOf(some))}`),
  ].join('\n')
}

const SHOWN = 120
const shorten = (text: string): string => (text.length > SHOWN ? `${text.slice(0, SHOWN)}... (${text.length})` : text)

/** One mismatch in a few lines, without what a reader can leave out. */
function describe({ trial, lines, native }: Mismatch): string {
  const { scene, mode, substitute, device, viaMknodat } = trial.case
  const { caller } = scene
  const walk = walkOf(scene, '/TREE')
  const chain = scene.directories.map(({ user, group, mode, ...more }) => {
    const extras = Object.entries(more).filter(([, value]) => value)
    return `${user}:${group} ${mode.toString(8)}${extras.map(([key, value]) => ` ${key}=${value}`).join('')}`
  })
  const mount = mountOf(scene)
  return [
    `  path ${shorten(JSON.stringify(walk.path.toString('latin1')))} ${viaMknodat ? 'mknodat' : 'mknod'} dirfd ${walk.dirfd} mode ${mode.toString(8)} device ${device.join(':')}`,
    `  root ${walk.root ?? '/'} cwd ${walk.cwd} fd ${walk.fd ?? '-'} pointer ${scene.pointer}`,
    `  caller ${caller.uid}:${caller.gid} [${caller.groups}] caps ${caller.caps} (${capSets[caller.caps].toString(16)}) umask ${caller.umask.toString(8)}`,
    `  ${scene.fileSystem}: ${chain.join(' / ')}${mount ? `; ${mount.kind} over directory ${mount.over + 1}` : ''}`,
    ...walk.extras.slice(0, 3).map(({ path, link }) => `  there: ${path}${link === undefined ? '' : ` -> ${link}`}`),
    `  compared with ${native} (${substitute})`,
    ...lines.slice(0, 24).map((line) => `  ${shorten(line)}`),
  ].join('\n')
}

export function summary(findings: Findings): string {
  const { seed, trials, impossible, wanted, groups: all } = findings
  const groups = [...all.values()].sort((a, b) => b.count - a.count)
  return [
    `seed ${seed}: ${trials.length} cases, ${trials.filter(({ natives }) => natives.host).length} of them with both natives; ${impossible} had no possible caller`,
    '',
    ...[...wanted].map(([{ name, why }, count]) => `wanted, ${count} times: ${name}. ${why}`),
    ...groups.map(({ known, count, kind, smallest }) => {
      const title = known ? `To be mended, ${count} times: ${known.name}. ${known.why}` : `MISMATCH, ${count} times`
      return `\n${title}\n  ${kind}\n${describe(smallest)}`
    }),
  ].join('\n')
}
