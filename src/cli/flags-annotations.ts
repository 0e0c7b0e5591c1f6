import { deviceNames } from '../kernel/device-names.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { PROFILE, parseAssignment } from '../policy/key-value-lines.ts'
import { resolve } from '../policy/resolve.ts'
import { settle } from '../policy/settings.ts'
import { configFileIfThere } from './config-file.ts'
import { readConfiguration } from './daemon-config.ts'
import { asUsage } from './usage.ts'
import type { PolicyOptions, WantedPolicy } from './wanted-policy.ts'

type Annotation = readonly [key: string, value: string]

/** Reads the annotations, each value in its canonical spelling. */
export const givenAnnotations = (texts: readonly string[] = []): readonly Annotation[] =>
  asUsage(() => {
    const annotations = texts.map((text) => parseAssignment(text))
    // A value that is invalid in every configuration is an error; annotations that only ours ignores are listed below.
    settle(annotations.filter(([key]) => key !== PROFILE))
    return annotations
  })

/** Reads what holds for annotations; nothing does where there is no configuration. */
function configForAnnotations({ daemonConfig, user = false }: PolicyOptions): Config {
  const file = daemonConfig ?? configFileIfThere(user)
  return file === undefined ? parseConfig('', '') : readConfiguration(file)
}

/** Lists the annotations that the daemon's configuration ignores. */
function ignored({ metadata }: WantedPolicy, annotations: readonly Annotation[], config: Config): readonly string[] {
  const sources = { metadata: metadata.join('\n'), annotations: Object.fromEntries(annotations) }
  return resolve(config, sources, deviceNames).notes.map(({ key, why }) => {
    const section = key === PROFILE ? 'annotations.profiles' : 'annotations.raise'
    return `${key}: ${why}; unless ${section} of the daemon's configuration lists it`
  })
}

/** Says what becomes of the annotations; the configuration may be readable for root alone. */
export function remarksOn(
  annotations: readonly Annotation[],
  wanted: WantedPolicy,
  options: PolicyOptions,
): readonly string[] {
  if (annotations.length === 0) return []
  try {
    return ignored(wanted, annotations, configForAnnotations(options))
  } catch (error) {
    return [`which annotations hold is not known: ${(error as Error).message}`]
  }
}
