// Replaces every reason's text and every error's message by a number, for the project 'texts' of vitest.config.ts.
import { fileURLToPath } from 'node:url'
import type { Plugin } from 'vitest/config'

const numbers = new Map<string, string>()

/** Returns a number for a text, the same for the same text. */
function numbered(text: string): string {
  if (!numbers.has(text)) numbers.set(text, `${numbers.size + 1}`)
  return numbers.get(text)!
}

/** Replaces the texts of a table of reasons. @public imported by the modules that the plugin changes */
export function numberReasons(table: Record<string, readonly string[]>): void {
  for (const [code, texts] of Object.entries(table)) table[code] = texts.map((text) => text && numbered(text))
}

/** Returns a class of errors whose messages are numbers. The instances of `former` are instances of it. */
function numbering<C extends ErrorConstructor>(former: C): C {
  const made = class extends (former as ErrorConstructor) {
    constructor(message?: string, options?: ErrorOptions) {
      super(message && numbered(message), options)
    }
  }
  const isInstance = Function.prototype[Symbol.hasInstance]
  Object.defineProperty(made, Symbol.hasInstance, {
    value(this: unknown, error: unknown): boolean {
      return this === made ? error instanceof former : isInstance.call(this as typeof made, error)
    },
  })
  return made as unknown as C
}

/** @public as above */
export const NumberedError = numbering(Error)
/** @public as above */
export const NumberedRangeError = numbering(RangeError)

const HERE = JSON.stringify(fileURLToPath(import.meta.url))
const ERRORS = `import { NumberedError as Error, NumberedRangeError as RangeError } from ${HERE};\n`
const REASONS = `\nimport { numberReasons } from ${HERE};\nnumberReasons(reasons);\n`

/** Lets the modules of src have these errors and reasons. */
export const numberedTexts = (): Plugin => ({
  name: 'numbered-texts',
  enforce: 'post',
  transform(code, id) {
    if (!/\/src\/.*\.ts$/.test(id)) return undefined
    return { code: ERRORS + code + (id.endsWith('/src/calls/reasons.ts') ? REASONS : ''), map: null }
  },
})
